//! Files are read on separate threads and with a time limit: one on a file server that is gone answers never, and a
//! thread that waits for it can do nothing else.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The files could not be read in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the file system does not answer")]
pub struct Stuck;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that reads files, from the first time on that there are any to read.
#[derive(Debug)]
pub(crate) struct FileThread {
    limit: Duration,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Since when it has been at a job.
    busy: Arc<Mutex<Option<Instant>>>,
}

impl FileThread {
    /// One that is given up on when a job takes longer than `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, jobs: Mutex::default(), busy: Arc::default() }
    }

    /// The result of `job`. As long as an earlier one is stuck, no other is begun, and none is waited for.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Stuck> {
        if self.busy.lock().is_some_and(|since| since.elapsed() >= self.limit) {
            return Err(Stuck);
        }
        let (reply, result) = oneshot::channel();
        let job = move || {
            if !reply.is_closed() {
                // Ignored: the receiver may be dropped.
                let _closed = reply.send(job());
            }
        };
        self.give(Box::new(job))?;
        timeout(self.limit, result).await.ok().and_then(Result::ok).ok_or(Stuck)
    }

    fn give(&self, job: Job) -> Result<(), Stuck> {
        let mut jobs = self.jobs.lock();
        let jobs = match &mut *jobs {
            Some(jobs) => jobs,
            none => none.insert(self.start()?),
        };
        jobs.send(job).map_err(|_| Stuck)
    }

    fn start(&self) -> Result<mpsc::Sender<Job>, Stuck> {
        let (jobs, given) = mpsc::channel::<Job>();
        let busy = Arc::clone(&self.busy);
        let work = move || {
            for job in given {
                *busy.lock() = Some(Instant::now());
                job();
                *busy.lock() = None;
            }
        };
        thread::Builder::new().name("files".into()).spawn(work).map_err(|_| Stuck)?;
        Ok(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stuck_job_delays_no_caller_and_later_ones_run_again() {
        let files = FileThread::new(Duration::from_secs(2));
        assert_eq!(files.run(|| 1).await, Ok(1));
        let (go, waits) = mpsc::channel::<()>();
        assert_eq!(files.run(move || waits.recv().is_ok()).await, Err(Stuck));
        let began = Arc::new(Mutex::new(false));
        let noted = Arc::clone(&began);
        assert_eq!(files.run(move || *noted.lock() = true).await, Err(Stuck));
        go.send(()).expect("it waits");
        while files.busy.lock().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(files.run(|| 2).await, Ok(2));
        assert!(!*began.lock(), "what was refused is not done later");
    }
}
