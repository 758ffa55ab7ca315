//! Reports to systemd: readiness, watchdog pings and the state of the connection to libvirt.
//!
//! The watchdog is pinged only if every accept loop and the collector's thread respond. The state of libvirt does not matter: a
//! restart of the exporter would not help there. Without `NOTIFY_SOCKET` nothing of this happens.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{sleep, timeout};

use crate::app::exporter::Exporter;
use crate::collect::Standing;
use crate::web::Pulse;

/// Between two reports, unless the watchdog needs shorter ones.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait for the first attempt to connect.
const FIRST_ATTEMPT: Duration = Duration::from_secs(10);
/// Between two checks of that.
const FIRST_LOOKS: Duration = Duration::from_millis(20);

/// Reports to systemd.
#[derive(Debug)]
pub struct Systemd {
    exporter: Arc<Exporter>,
    pulses: Vec<Pulse>,
}

impl Systemd {
    /// Of an exporter that is served by the accept loops with these pulses.
    #[must_use]
    pub fn new(exporter: Arc<Exporter>, pulses: Vec<Pulse>) -> Self {
        Self { exporter, pulses }
    }

    /// Reports readiness as soon as connections are accepted and the first attempt to reach libvirt has ended, whatever its
    /// result. Pings the watchdog from then on, until the future is dropped.
    pub async fn watch(&self) {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        // A third of the time until systemd acts: one report may be late.
        let watchdog = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        let interval = watchdog.map_or(INTERVAL, |limit| limit / 3);
        // A longer attempt delays nothing: scrapes are answered.
        let _late = timeout(FIRST_ATTEMPT, self.first_attempt()).await;
        self.ready().await;
        let mut alive = true;
        loop {
            sleep(interval).await;
            let was_alive = alive;
            let standing = timeout(interval, self.standing()).await.ok().flatten();
            alive = standing.is_some();
            match &standing {
                Some(standing) => notify(&[NotifyState::Watchdog, NotifyState::Status(&self.status(standing))]),
                None if was_alive => {
                    tracing::error!("the server or the collector does not respond, skipping the watchdog ping");
                }
                None => {}
            }
        }
    }

    /// Reports that a reload begins; [`Systemd::ready`] reports its end.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "cannot read the clock"),
        }
    }

    /// Reports that it serves.
    pub async fn ready(&self) {
        // A collector that does not respond in time is left to the watchdog.
        let standing = timeout(INTERVAL, self.exporter.standing()).await.ok().flatten();
        let status = self.status(&standing.unwrap_or(Standing::Connecting));
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Reports that it ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping, NotifyState::Status("finishing the scrapes under way")]);
    }

    async fn first_attempt(&self) {
        while self.standing().await == Some(Standing::Connecting) {
            sleep(FIRST_LOOKS).await;
        }
    }

    /// The state of the connection to libvirt, if everything that serves is alive.
    async fn standing(&self) -> Option<Standing> {
        for pulse in &self.pulses {
            if !pulse.beats().await {
                return None;
            }
        }
        self.exporter.standing().await
    }

    /// One line for `systemctl status`.
    fn status(&self, standing: &Standing) -> String {
        let uri = self.exporter.config().libvirt.uri.redacted().to_string();
        let connection = match standing {
            Standing::Connecting => format!("connecting to {uri}"),
            Standing::Connected(versions) => format!("connected to {uri}, libvirt {}", versions.libvirt),
            Standing::Failed(error) => format!("no connection to libvirt: {error}"),
            Standing::None => "serving targets, no local libvirt".to_owned(),
        };
        let fault = self.exporter.config_status.fault();
        let fault =
            fault.map_or_else(String::new, |fault| format!("; the new configuration is not in effect: {fault}"));
        // A line break would end the message.
        format!("{connection}{fault}").replace('\n', " ")
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
