//! What an operator can do about an error.
//!
//! libvirt tells one cause of a failed connection from another by its message only. Those of the client library are English
//! whatever the locale, since this program does not set one; the daemon's may be translated, and then the class decides.

use std::path::{Path, PathBuf};

use super::error::{ErrorClass, LibvirtError};

/// Of a daemon that refuses the client certificate.
const CLIENT_CERTIFICATE: &str = "the daemon does not accept this host's client certificate, or there is none: put \
    clientcert.pem and clientkey.pem, signed by the daemon's CA, into the folder of pkipath= (default: /etc/pki/libvirt)";

/// Of a daemon that closes the connection. What the client library says of it depends on how far it was.
const CLOSED: &str = "the daemon closed the connection before it answered: a TLS port (16514) needs qemu+tls in {key}; \
    otherwise see the daemon's log, and max_clients in its configuration";

/// All of these are in the message, and then this is the remedy; `{virsh}` is a command that makes the same connection,
/// `{daemon}` the modular daemon of the URI's driver, `{key}` the setting that has the URI.
const REMEDIES: &[(&[&str], &str)] = &[
    (
        &["Cannot read CA certificate"],
        "put the certificate of the CA that signed the daemon's at the path above, or name its folder in the URI \
         (pkipath=)",
    ),
    (&["server verification (of our certificate"], CLIENT_CERTIFICATE),
    // The daemon closes the connection in place of its confirmation.
    (&["Unable to read TLS confirmation"], CLIENT_CERTIFICATE),
    (
        &["Our own certificate", "failed validation"],
        "the client certificate above and the CA certificate beside it belong to different CAs: use those of the daemon's CA",
    ),
    (&["has expired"], "renew the certificate above"),
    (&["is not yet active"], "wait until the certificate above is valid, or correct the clock of this host"),
    (
        &["Failed to verify peer's certificate"],
        "the daemon's certificate has to be signed by the CA of cacert.pem (in /etc/pki/CA, or the folder of pkipath=) and to \
         name the host as {key} does; libvirt's warning before this line says which does not hold",
    ),
    (
        &["TLS handshake failed"],
        "see whether the port speaks TLS (16514 does, 16509 does not) and whether both sides know a common version and \
         priority; the daemon's log has its side",
    ),
    (
        &["SASL"],
        "the daemon requires a user and a password (SASL): put them into auth.conf of libvirt's client \
         (~/.config/libvirt, /etc/libvirt), or use a socket without SASL",
    ),
    (
        &["No authentication callback available"],
        "the daemon requires a user and a password: put them into auth.conf of libvirt's client (~/.config/libvirt, \
         /etc/libvirt), or use a socket without",
    ),
    (
        &["Failed to find user record for uid"],
        "the daemon cannot look up the user of the exporter: install libnss-systemd on its host (for DynamicUser=), or run as a \
         user that the host knows; in a container as user 65534",
    ),
    // ssh's own message, which libvirt puts behind its own.
    (
        &["Host key verification failed"],
        "add the host's key to known_hosts of the exporter's user: run `ssh HOST true` once as that user",
    ),
    (
        &["Permission denied (publickey"],
        "give the exporter's user a key that the host accepts, by keyfile= in {key}, and try `ssh -i KEY HOST true`",
    ),
    (&["Could not resolve hostname"], "correct the host in {key}, or have its name resolved (getent hosts NAME)"),
    (
        &["ssh: connect to host"],
        "see whether sshd runs on the host in {key}, and whether a firewall is between it and this one",
    ),
    (&["Cannot find 'ssh' in path"], "install the ssh client (openssh-client), or use qemu+tls in {key}"),
    (
        &["virt-ssh-helper: cannot connect"],
        "ssh works, but the daemon of the host in {key} does not: see whether `virsh -r list` works for the user there",
    ),
    (
        &["virt-ssh-helper", "not found"],
        "install virt-ssh-helper on the host in {key} (libvirt-daemon, libvirt-client), or leave proxy=native out",
    ),
    (&["Cannot recv data"], CLOSED),
    (&["Cannot write data"], CLOSED),
    (&["End of file while reading data"], CLOSED),
    (&["client socket is closed"], CLOSED),
    (&["Unable to resolve address"], "correct the host in {key}, or have its name resolved (getent hosts NAME)"),
    (
        &["unable to connect to server", "Connection refused"],
        "nothing listens at that port: start the daemon's socket there (libvirtd-tls.socket or libvirtd-tcp.socket, or \
         that of virtproxyd), or correct the port in {key}",
    ),
    (&["unable to connect to server"], "see whether the host is up, and whether a firewall is between it and this one"),
    (
        &["system_bus_socket"],
        "start D-Bus and polkit on this host (systemctl start dbus polkit): the daemon asks them who may connect",
    ),
    (
        &["olkit"],
        "grant org.libvirt.unix.monitor to the user of the exporter by a polkit rule, and see that polkit runs \
         (systemctl status polkit)",
    ),
    (
        &["org.freedesktop."],
        "start D-Bus and polkit on this host (systemctl start dbus polkit): the daemon asks them who may connect",
    ),
    (
        &["no connection driver available"],
        "this libvirt has no such driver: correct the scheme of {key} (qemu, lxc, xen), or install the driver's \
         package and its daemon",
    ),
    (&["was built without"], "this libvirt has no such driver: correct the scheme of {key} (qemu, lxc, xen)"),
    (&["URI"], "correct {key}, as in qemu:///system"),
    (
        &["Failed to connect socket to", "Connection refused"],
        "no daemon listens at the socket above, which one has left behind: start its socket unit again (systemctl restart \
         {daemon}-ro.socket, or libvirtd-ro.socket)",
    ),
    (
        &["Failed to connect socket to", "No such file or directory"],
        "enable the daemon's socket (systemctl enable --now {daemon}-ro.socket, or libvirtd-ro.socket), or set {key} \
         to where it listens",
    ),
];

/// Of hypervisors; with any other the client library goes to libvirtd, which says that there is no such driver, if it runs.
const DRIVERS: [&str; 17] = [
    "bhyve",
    "ch",
    "esx",
    "gsx",
    "hyperv",
    "lxc",
    "openvz",
    "parallels",
    "qemu",
    "test",
    "vbox",
    "vmwarefusion",
    "vmwareplayer",
    "vmwarews",
    "vpx",
    "vz",
    "xen",
];

impl LibvirtError {
    /// What an operator can do about it. `uri` is that of the connection, without a password, and `key` the setting that has it.
    #[must_use]
    pub fn remedy(&self, uri: &str, key: &str) -> String {
        let virsh = format!("virsh -r -c '{uri}' list");
        if self.is_refused_by_module() {
            return "the permissions of the socket admit this user, so that a security module (SELinux, AppArmor) refuses it: \
                    see `ausearch -m avc -ts recent` or `journalctl -k -g apparmor`, and allow the exporter to connect to \
                    libvirt's socket"
                .to_owned();
        }
        if let Some(folder) = self.closed_folder() {
            return format!("let the user of the exporter enter the folder {} (chmod o+x)", folder.display());
        }
        if let Some(socket) = self.abandoned_modular_socket() {
            return format!(
                "{} is left of a modular daemon that does not run, and libvirtd has a socket beside it: remove it, or \
                 add ?mode=legacy to {key}",
                socket.display()
            );
        }
        let driver = uri.split([':', '+']).next().unwrap_or_default().to_ascii_lowercase();
        if self.class == ErrorClass::ConnectFailed && !DRIVERS.contains(&driver.as_str()) {
            return format!("libvirt has no driver {driver}: correct the scheme of {key} (qemu, lxc, xen, ch)");
        }
        let fits = |marks: &[&str]| marks.iter().all(|mark| self.message.contains(mark));
        // How a connection over ssh breaks says little where ssh has said nothing.
        let is_over_ssh = uri.split(':').next().is_some_and(|scheme| scheme.ends_with("ssh"));
        let by_message = REMEDIES.iter().find(|(marks, _)| fits(marks)).map(|(_, remedy)| *remedy);
        let by_message = by_message.filter(|remedy| !is_over_ssh || *remedy != CLOSED);
        if by_message.is_none() && is_over_ssh && self.class == ErrorClass::ConnectFailed {
            return "see whether `ssh HOST true` works for the exporter's user without a prompt".to_owned();
        }
        let remedy = by_message.unwrap_or_else(|| self.class_remedy());
        // The modular daemon of a driver; those of others have no daemon.
        let daemon = match driver.as_str() {
            "lxc" => "virtlxcd",
            "xen" => "virtxend",
            _ => "virtqemud",
        };
        remedy.replace("{virsh}", &virsh).replace("{daemon}", daemon).replace("{key}", key)
    }

    fn class_remedy(&self) -> &'static str {
        match self.class {
            ErrorClass::ConnectFailed => {
                "enable the daemon's socket (systemctl enable --now {daemon}-ro.socket, or libvirtd-ro.socket), or set \
                 {key} to where it listens; \
                 `{virsh}` makes the same connection"
            }
            ErrorClass::BadUri => "set {key} to one that `{virsh}` can open as the exporter's user",
            // The message itself names the user and the settings.
            ErrorClass::PermissionDenied => "grant the access that the line above names, or run as a user who has it",
            ErrorClass::ReadOnly => {
                "set {key} to the read-write socket of the daemon, or collect no group that needs one"
            }
            ErrorClass::Disconnected => "see the daemon's log: it closed the connection",
            ErrorClass::TimedOut => {
                "see whether `{virsh}` answers: if not, the daemon is frozen or at its client limit; if it does, a \
                 guest does not answer or collection.deadline is too short"
            }
            ErrorClass::TooLarge => "collect fewer groups, or remove vcpu_kvm from collection.groups",
            ErrorClass::NotSupported => "this driver does not know the call: see whether `{virsh}` works",
            ErrorClass::VanishedDomain | ErrorClass::Other(_) => {
                "try again; if it persists, report it with `scrape --format params`"
            }
        }
    }

    /// The unix socket that could not be connected to.
    fn socket(&self) -> Option<&Path> {
        let (_, rest) = self.message.split_once("Failed to connect socket to '")?;
        rest.split_once('\'').map(|(path, _)| Path::new(path))
    }

    /// The folder above the socket that this process may not enter.
    pub(super) fn closed_folder(&self) -> Option<PathBuf> {
        if self.class != ErrorClass::PermissionDenied {
            return None;
        }
        let socket = self.socket()?;
        let denied = |path: &Path| {
            std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        // Of all that is out of sight, the uppermost: its folder is the closed one.
        let out_of_sight = socket.ancestors().take_while(|path| denied(path)).last()?;
        out_of_sight.parent().map(Path::to_owned)
    }

    /// Whether the socket refuses this process although its permissions do not.
    pub(super) fn is_refused_by_module(&self) -> bool {
        let may = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
        let socket = self.socket().filter(|_| self.class == ErrorClass::PermissionDenied);
        socket.is_some_and(|socket| rustix::fs::access(socket, may).is_ok())
    }

    /// The socket of a modular daemon that is not there any more, where libvirtd has one.
    fn abandoned_modular_socket(&self) -> Option<&Path> {
        let socket = self.socket().filter(|_| self.message.contains("Connection refused"))?;
        let name = socket.file_name()?.to_str()?;
        let (daemon, kind) = name.split_once("-sock")?;
        let modular = daemon.starts_with("virt") && daemon.ends_with('d');
        (modular && socket.with_file_name(format!("libvirt-sock{kind}")).exists()).then_some(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(class: ErrorClass, message: &str) -> String {
        LibvirtError::own("cannot open x read-only", class, message).remedy("qemu+tls://h/system", "libvirt.uri")
    }

    /// The messages are libvirt's own, of 9.0.
    #[test]
    fn each_cause_has_its_remedy() {
        use ErrorClass::{ConnectFailed, PermissionDenied, TimedOut};
        for (class, message, part) in [
            (
                ConnectFailed,
                "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
                "pkipath=",
            ),
            (
                ConnectFailed,
                "server verification (of our certificate or IP address) failed: Input/output error",
                "clientcert.pem",
            ),
            (
                ConnectFailed,
                "authentication failed: TLS handshake failed The TLS connection was non-properly terminated.",
                "16509",
            ),
            (PermissionDenied, "authentication failed: Failed to verify peer's certificate", "pkipath="),
            (
                PermissionDenied,
                "authentication failed: Failed to start SASL negotiation: -4 (no mechanism available)",
                "auth.conf",
            ),
            (ConnectFailed, "Unable to read TLS confirmation: Input/output error", "clientcert.pem"),
            (
                ConnectFailed,
                "error from service: Failed to find user record for uid '61184': Permission denied",
                "libnss-systemd",
            ),
            (ConnectFailed, "Cannot recv data: Host key verification failed.: Connection reset by peer", "known_hosts"),
            (ConnectFailed, "Cannot recv data: u@h: Permission denied (publickey,password).: Connection", "keyfile="),
            (ConnectFailed, "Cannot recv data: ssh: Could not resolve hostname h: Name or service", "getent"),
            (ConnectFailed, "Cannot recv data: ssh: connect to host h port 22: Connection refused", "sshd"),
            (ConnectFailed, "Cannot find 'ssh' in path: No such file or directory", "openssh-client"),
            (
                ConnectFailed,
                "End of file while reading data: virt-ssh-helper: cannot connect to '/run/x': No such file",
                "virsh -r list",
            ),
            (
                ConnectFailed,
                "End of file while reading data: bash: line 1: virt-ssh-helper: command not found",
                "install virt-ssh-helper",
            ),
            (ConnectFailed, "Cannot recv data: Connection reset by peer", "max_clients"),
            (ConnectFailed, "Unable to resolve address 'nohost' service '16514': Name or service not known", "getent"),
            (ConnectFailed, "unable to connect to server at 'h:16514': Connection refused", "virtproxyd"),
            (ConnectFailed, "unable to connect to server at 'h:16514': No route to host", "firewall"),
            (
                PermissionDenied,
                "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
                "polkit rule",
            ),
            (
                ConnectFailed,
                "Failed to connect to socket /run/dbus/system_bus_socket: No such file or directory",
                "systemctl start dbus",
            ),
            (ConnectFailed, "no connection driver available for qemu:///system", "package"),
            (ConnectFailed, "Failed to connect socket to '/run/a': Connection refused", "left behind"),
            (
                ConnectFailed,
                "Failed to connect socket to '/run/a': No such file or directory",
                "virtqemud-ro.socket, or libvirtd-ro.socket",
            ),
            (ConnectFailed, "internal error: something else", "virsh -r -c"),
            (TimedOut, "the daemon has not answered for 5 s", "virsh -r -c 'qemu+tls://h/system' list"),
        ] {
            let remedy = remedy(class, message);
            assert!(remedy.contains(part) && !remedy.contains('{'), "{message}: {remedy}");
        }
        let missing = "Failed to connect socket to '/run/a': No such file or directory";
        let error = LibvirtError::own("cannot open x read-only", ConnectFailed, missing);
        assert!(error.remedy("lxc:///system", "libvirt.uri").contains("virtlxcd-ro.socket"));
        assert!(error.remedy("xen+unix:///system", "libvirt.uri").contains("virtxend-ro.socket"));
        let error = LibvirtError::own("cannot open x read-only", ConnectFailed, "Cannot write data: Broken pipe");
        assert!(error.remedy("qemu+ssh://h/system", "libvirt.uri").contains("`ssh HOST true`"));
        let error = LibvirtError::own("cannot open x read-only", ConnectFailed, "No such file or directory");
        assert!(error.remedy("nosuch:///system", "libvirt.uri").contains("no driver nosuch"));
    }

    /// As root every file admits; then too it is the module that refused.
    #[test]
    fn a_socket_that_admits_the_user_was_refused_by_a_security_module() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("libvirt-sock-ro");
        let refused = format!("Failed to connect socket to '{}': Permission denied", socket.display());
        let told = || remedy(ErrorClass::PermissionDenied, &refused).contains("SELinux");
        assert!(!told(), "there is no socket");
        std::fs::write(&socket, "").expect("written");
        assert!(told());
    }

    #[test]
    fn a_socket_that_a_modular_daemon_left_beside_that_of_libvirtd_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("virtqemud-sock-ro");
        let refused = format!("Failed to connect socket to '{}': Connection refused", socket.display());
        let told = || remedy(ErrorClass::ConnectFailed, &refused).contains("?mode=legacy");
        assert!(!told());
        std::fs::write(folder.path().join("libvirt-sock-ro"), "").expect("written");
        assert!(told());
    }
}
