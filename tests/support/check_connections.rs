//! Connections that fail.

use super::*;

pub(super) const CONNECTION: &[Situation] = &[
    (
        "no socket",
        |scene| {
            let socket = scene.path("virtqemud-sock-ro");
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "No such file or directory",
        "enable the daemon's socket (systemctl enable --now virtqemud-ro.socket",
    ),
    (
        "a socket that is left behind",
        |scene| {
            let socket = scene.path("libvirt-sock-ro");
            drop(UnixListener::bind(&socket).unwrap());
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "Connection refused",
        "start its socket unit again",
    ),
    (
        "a socket of a modular daemon beside that of libvirtd",
        |scene| {
            let socket = scene.path("virtqemud-sock-ro");
            drop(UnixListener::bind(&socket).unwrap());
            fs::write(scene.path("libvirt-sock-ro"), "").unwrap();
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "Connection refused",
        "?mode=legacy",
    ),
    (
        "a socket that the user may not open",
        |scene| {
            scene.as_other_user = true;
            let socket = scene.path("libvirt-sock-ro");
            scene.hold(UnixListener::bind(&socket).unwrap());
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o0)).unwrap();
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "needs access to the read-only socket: unix_sock_ro_perms",
        "grant the access that the line above names",
    ),
    (
        "a closed folder above the socket",
        |scene| {
            scene.as_other_user = true;
            let closed = scene.path("closed");
            fs::create_dir(&closed).unwrap();
            scene.hold(UnixListener::bind(closed.join("s")).unwrap());
            fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
            scene.uri(format!("qemu+unix:///system?socket={}/s", closed.display()));
        },
        1,
        "connection",
        "may not enter the folder",
        "chmod o+x",
    ),
    (
        "a URI whose driver there is not",
        |scene| scene.uri("nosuchdriver:///system"),
        1,
        "connection",
        "nosuchdriver:///system",
        "libvirt has no driver nosuchdriver",
    ),
    (
        "a libvirt without the driver",
        |scene| scene.refusing(5, "no connection driver available for qemu:///system"),
        2,
        "connection",
        "no connection driver available",
        "libvirt.uri",
    ),
    (
        "a port that refuses",
        |scene| scene.uri(format!("qemu+tcp://127.0.0.1:{}/system", port_that_refuses())),
        1,
        "connection",
        "Connection refused",
        "nothing listens at that port",
    ),
    (
        "a host without an address",
        |scene| scene.uri("qemu+tcp://host.invalid/system"),
        1,
        "connection",
        "Unable to resolve address",
        "correct the host in libvirt.uri",
    ),
    (
        "TLS without a CA certificate",
        |scene| {
            let folder = scene.folder.path().display().to_string();
            scene.uri(format!("qemu+tls://127.0.0.1:{}/system?pkipath={folder}", port_that_refuses()));
        },
        1,
        "connection",
        "Cannot read CA certificate",
        "name its folder in the URI (pkipath=)",
    ),
    (
        "TLS to a port without it",
        |scene| {
            let port = port_that(|mut stream| {
                let _closed = stream.write_all(b"\0\0\0\x1c this is not TLS at all");
                let _closed = stream.read(&mut [0; 1024]);
            });
            scene.tls(port, &Authority::new().certificate);
        },
        1,
        "connection",
        "TLS handshake failed",
        "16514 does, 16509 does not",
    ),
    (
        "TLS with a certificate of another CA",
        |scene| {
            let server = tls_server(&Authority::new());
            scene.tls(server.address.port(), &Authority::named("another authority").certificate);
            scene.hold(server);
        },
        1,
        "connection",
        "Failed to verify peer's certificate",
        "signed by the CA of cacert.pem",
    ),
    (
        "a daemon that closes the connection",
        |scene| {
            let port = port_that(drop);
            scene.uri(format!("qemu+tcp://127.0.0.1:{port}/system"));
        },
        1,
        "connection",
        "annot",
        "the daemon closed",
    ),
    (
        "ssh to a host whose key is not known",
        |scene| scene.ssh("Host key verification failed."),
        1,
        "connection",
        "Host key verification failed",
        "known_hosts",
    ),
    (
        "ssh without a key that the host accepts",
        |scene| scene.ssh("exporter@host: Permission denied (publickey,password)."),
        1,
        "connection",
        "Permission denied (publickey",
        "keyfile=",
    ),
    (
        "ssh to a host without an address",
        |scene| scene.ssh("ssh: Could not resolve hostname host: Name or service not known"),
        1,
        "connection",
        "Could not resolve hostname",
        "getent hosts",
    ),
    (
        "ssh to a host without sshd",
        |scene| scene.ssh("ssh: connect to host host port 22: Connection refused"),
        1,
        "connection",
        "ssh: connect to host",
        "see whether sshd runs",
    ),
    (
        "ssh without its program",
        |scene| {
            scene.environment.push(("PATH", "/nonexistent".to_owned()));
            scene.uri("qemu+ssh://host/system");
        },
        1,
        "connection",
        "ssh",
        "openssh-client",
    ),
    (
        "a daemon that accepts no connection, as at its limit of clients",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().accept(false);
            scene.hold(daemon);
        },
        1,
        "connection",
        "no answer within ",
        "at its client limit",
    ),
    (
        "a daemon that hangs while a connection opens",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().reply(Procedure::ConnectOpen, ReplyFault::Swallow, Times::Always);
            scene.config += "collection: {deadline: 2s}\n";
            scene.hold(daemon);
        },
        1,
        "connection",
        "libvirt did not answer within ",
        "see whether `virsh -r -c 'qemu+unix:",
    ),
    (
        "a daemon that ends the connection while it opens",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().reply(Procedure::ConnectOpen, ReplyFault::Disconnect, Times::Always);
            scene.hold(daemon);
        },
        1,
        "connection",
        "End of file",
        "daemon",
    ),
    (
        "a user whom the daemon's host does not know",
        |scene| scene.refusing(SYSTEM_ERROR, "Failed to find user record for uid '61184'"),
        1,
        "connection",
        "Failed to find user record",
        "libnss-systemd",
    ),
    (
        "a daemon without D-Bus",
        |scene| {
            let socket = "Failed to connect to socket /run/dbus/system_bus_socket: No such file or directory";
            scene.refusing(INTERNAL_ERROR, socket);
        },
        1,
        "connection",
        "system_bus_socket",
        "systemctl start dbus polkit",
    ),
    (
        "polkit refuses",
        |scene| {
            let agent = "no polkit agent available to authenticate action 'org.libvirt.unix.monitor'";
            scene.refusing(AUTH_UNAVAILABLE, &format!("authentication unavailable: {agent}"));
        },
        1,
        "connection",
        "polkit agent",
        "by a polkit rule",
    ),
    (
        "a daemon that wants a password",
        |scene| scene.refusing(AUTH_FAILED, "authentication failed: Failed to start SASL negotiation: -4"),
        1,
        "connection",
        "SASL",
        "auth.conf",
    ),
];
