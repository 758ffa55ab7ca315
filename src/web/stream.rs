//! A client's connection that cannot hold the server up: hyper times neither writing nor closing, and gives reading one time
//! for what needs two, the head of a request and the silence between two requests.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::connection::Connection;
use super::limits::{LINGER, LINGER_BYTES, WRITE_STALL};

/// A stream with limits on silence and on stalled writes, and an orderly close.
pub(super) struct ClientStream<T> {
    stream: T,
    connection: Arc<Connection>,
    /// Runs while it is the client's turn.
    silence: Option<Pin<Box<Sleep>>>,
    /// Runs while a write is pending.
    stall: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
}

struct Closing {
    discarded: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<T> ClientStream<T> {
    pub(super) fn new(stream: T, connection: Arc<Connection>) -> Self {
        Self { stream, connection, silence: None, stall: None, closing: None }
    }

    /// Completes when the client has been silent, or slow, for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.connection.read_deadline() else {
            self.silence = None;
            return Poll::Pending;
        };
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if silence.deadline() != deadline {
            silence.as_mut().reset(deadline);
        }
        silence.as_mut().poll(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> ClientStream<T> {
    fn note_write(&self, outcome: &Poll<io::Result<usize>>) {
        if outcome.is_ready() {
            self.connection.written();
        }
    }

    /// Passes on the outcome of a write, and fails one that has been pending for too long, or for longer than there is time for
    /// the answer.
    fn timed<R>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let stall = self.stall.get_or_insert_with(|| {
            let stalled = Instant::now() + WRITE_STALL;
            Box::pin(sleep_until(self.connection.answer_deadline().map_or(stalled, |late| late.min(stalled))))
        });
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    /// Reads and forgets what a client still sends. To close with its bytes unread would reset the connection, and
    /// the client would lose the answer that says why (431 to an endless request line).
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(|| Closing { discarded: 0, deadline: Box::pin(sleep(LINGER)) });
        let mut scratch = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && closing.discarded < LINGER_BYTES => {
                    closing.discarded += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // The usual close: there is nothing unread, and nothing to wait for.
                Poll::Pending if closing.discarded == 0 => return Poll::Ready(()),
                Poll::Pending => return closing.deadline.as_mut().poll(cx),
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ClientStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(outcome) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before {
                self.connection.received();
            }
            return Poll::Ready(outcome);
        }
        self.connection.looked();
        ready!(self.poll_silence(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(&outcome);
        self.timed(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_write(&outcome);
        self.timed(cx, outcome)
    }

    /// Without this hyper would copy every body.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if outcome.is_ready() && self.connection.flushed() {
            // The reader was polled while the response was being made; from now on the client's time counts.
            cx.waker().wake_by_ref();
        }
        self.timed(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.timed(cx, outcome))?;
        }
        self.discard(cx).map(Ok)
    }
}
