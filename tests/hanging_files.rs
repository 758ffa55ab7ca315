//! Files that do not come: neither a request nor the end of the process waits for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, dead_code)]

#[path = "support/server.rs"]
mod server;

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use server::{Server, folder};

/// Puts a FIFO that nothing is ever written to in place of a file.
fn put_fifo(path: &Path) {
    std::fs::remove_file(path).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_reload_does_not_wait_for_a_configuration_that_does_not_come() {
    let server = Server::start(folder(), "log: {level: info}", "");
    put_fifo(&server.folder.path().join("config.yaml"));
    server.signal("-HUP");
    server.wait_for_log("it is not a regular file");
    assert!(server.get("/metrics").contains("libvirt_exporter_config_last_reload_successful 0"));
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_request_does_not_wait_for_a_web_configuration_that_does_not_come() {
    let server = Server::start(folder(), "{}", "http_server_config: {headers: {X-Frame-Options: deny}}");
    put_fifo(&server.folder.path().join("web.yaml"));
    for _ in 0..3 {
        let answer = server.request(None, "GET", "/-/healthy", "").unwrap();
        assert!(answer.code == 200 && answer.head.contains("x-frame-options: deny"), "{}", answer.head);
    }
    assert!(server.log().contains("it is not a regular file"));
    server.replace("web.yaml", "{}");
    let answer = server.request(None, "GET", "/-/healthy", "").unwrap();
    assert!(!answer.head.contains("x-frame-options"), "{}", answer.head);
    assert_eq!(server.stop().0, Some(0));
}
