//! The bodies of answers. One that is written piece by piece while it is sent has no more of itself in memory than the piece that
//! is on its way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::connection::Connection;
use super::places::Placed;
use crate::encode::{Exposition, Position};

/// What a body is made from.
#[derive(Debug, Clone)]
pub enum Content {
    /// All of its bytes.
    Whole(Bytes),
    /// An exposition that is written while it is sent, for each client by itself, which costs little more than to copy it.
    Pieces(Arc<Exposition>),
}

impl Content {
    /// Which memory it is, and how many bytes of that: several contents may be the same.
    pub(super) fn memory(&self) -> (usize, usize) {
        match self {
            Self::Whole(bytes) => (bytes.as_ptr().addr(), bytes.len()),
            Self::Pieces(exposition) => (Arc::as_ptr(exposition).addr(), exposition.memory()),
        }
    }
}

/// A body on its way to a client.
#[derive(Debug)]
pub(super) enum Body {
    /// What is left of it: all, or nothing.
    Whole(Bytes),
    Pieces {
        exposition: Arc<Exposition>,
        at: Position,
        placed: Arc<Placed>,
    },
}

/// A body that tells its connection when hyper has taken all of it.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Body,
    connection: Arc<Connection>,
}

impl Outgoing {
    pub(super) fn new(body: Body, connection: Arc<Connection>) -> Self {
        connection.begin_body();
        Self { body, connection }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.connection.end_body();
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Self::Pieces { exposition, at, placed } => exposition.piece(at).map(|piece| placed.keep(piece.into())),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// Without a length hyper sends chunks.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Pieces { .. } => SizeHint::default(),
        }
    }
}
