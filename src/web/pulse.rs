//! Liveness of the loops that accept connections.

use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the loop; more than one only if it is stuck.
const WAITING: usize = 1;

/// Asks whether the accept loop of one listener is alive.
#[derive(Debug, Clone)]
pub struct Pulse(mpsc::Sender<oneshot::Sender<()>>);

impl Pulse {
    /// Whether the loop turns: answers when it does, or `false` when it has ended. A loop that is stuck does not answer.
    pub async fn beats(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.is_ok() && answer.await.is_ok()
    }
}

/// The loop's own end.
#[derive(Debug)]
pub(super) struct Heart(mpsc::Receiver<oneshot::Sender<()>>);

impl Heart {
    /// Answers the next question, whenever it comes. May be dropped and called again.
    pub(super) async fn beat(&mut self) {
        match self.0.recv().await {
            // Ignored: the receiver may be dropped.
            Some(question) => drop(question.send(())),
            // All senders are dropped.
            None => std::future::pending().await,
        }
    }
}

/// Both ends.
pub(super) fn pulse() -> (Pulse, Heart) {
    let (questions, asked) = mpsc::channel(WAITING);
    (Pulse(questions), Heart(asked))
}
