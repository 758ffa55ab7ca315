//! Guests that can be scraped: running domains made by hand, and the exporters within them.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use domstats_exporter::domains::{
    AddressSource, Addresses, Definition, Domain, Interface, InterfaceAddresses, Metadata, PowerState, ScrapeTarget,
};
use domstats_exporter::libvirt::Identity;
use uuid::Uuid;

/// A running domain with the address 192.0.2.`number`.
pub(crate) fn running(name: &str, number: u8, scrape: Vec<ScrapeTarget>) -> Domain {
    let mac = format!("52:54:00:00:00:{number:02x}");
    let device = format!("vnet{number}");
    let interface =
        Interface { device: device.clone(), mac: mac.clone(), network: "default".to_owned(), ..Interface::default() };
    let mut metadata = Metadata { interfaces: vec![interface], scrape, ..Metadata::default() };
    metadata.labels.insert("project".to_owned(), "shop \"north\"\nÄpfel".to_owned());
    let addresses = vec![Ipv4Addr::new(192, 0, 2, number).into()];
    let interfaces = vec![InterfaceAddresses { name: device, mac, addresses }];
    Domain {
        identity: Identity {
            name: name.to_owned(),
            uuid: Uuid::from_u128(u128::from(number)),
            id: Some(number.into()),
        },
        state: PowerState::Running,
        flags: None,
        first_seen: SystemTime::now(),
        started: None,
        booted: None,
        attached: std::collections::BTreeMap::new(),
        definition: Definition::Known(Arc::new(metadata)),
        agent_connected: None,
        counts: Arc::default(),
        addresses: Some(Some(Arc::new(Addresses { source: AddressSource::Lease, interfaces }))),
        selected: true,
    }
}

/// Stands for an exporter in a guest: a server at 127.0.0.`number`, which serves the sample
/// `guest_number` at one path. It ends with the test program.
pub(crate) struct GuestExporter {
    /// Its port.
    pub(crate) port: u16,
}

impl GuestExporter {
    /// Starts it.
    pub(crate) fn start(number: u8, path: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, number), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up is no concern of the next one.
                let _ = answer(stream, number, path);
            }
        });
        Self { port }
    }
}

fn answer(mut stream: TcpStream, number: u8, path: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let (status, body) = match head.split(' ').nth(1) {
        Some(asked) if asked == path => ("200 OK", format!("guest_number {number}\n")),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let fields = format!("Content-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close");
    stream.write_all(format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n{body}").as_bytes())
}
