//! A client of the bare protocol, for what the client library would not send, or not show.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use fake_libvirtd::frame::{Header, MessageType, REMOTE_PROGRAM, read_frame};
use fake_libvirtd::xdr::{Reader, Writer};
use fake_libvirtd::{FakeLibvirtd, Procedure};

/// An open connection.
pub(crate) struct RawClient {
    stream: UnixStream,
    serial: u32,
}

/// A record of bulk statistics: name, id, number of parameters, and their keys with type tags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) id: i32,
    pub(crate) params: u32,
    pub(crate) keys: Vec<(String, i32)>,
}

impl RawClient {
    /// Connects and opens, read-only or not.
    pub(crate) fn open(daemon: &FakeLibvirtd, read_only: bool) -> Self {
        Self::open_at(daemon.socket(), read_only)
    }

    /// Connects to any daemon and opens.
    pub(crate) fn open_at(socket: &Path, read_only: bool) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Self { stream, serial: 0 };
        client.call(Procedure::AuthList, |_| {}).unwrap();
        client
            .call(Procedure::ConnectOpen, |out| {
                out.optional_string(Some("qemu:///system")).u32(u32::from(read_only));
            })
            .unwrap();
        client
    }

    /// Sends a call and returns its serial number.
    pub(crate) fn send(&mut self, procedure: Procedure, arguments: impl FnOnce(&mut Writer)) -> u32 {
        let mut payload = Writer::new();
        arguments(&mut payload);
        self.serial += 1;
        let header = Header {
            program: REMOTE_PROGRAM,
            version: 1,
            procedure: procedure.number(),
            message_type: MessageType::Call.number(),
            serial: self.serial,
            status: 0,
        };
        self.stream.write_all(&header.frame(&payload.into_bytes())).unwrap();
        self.serial
    }

    /// The next frame, whatever it is.
    pub(crate) fn receive(&mut self) -> (Header, Vec<u8>) {
        read_frame(&mut self.stream).unwrap().unwrap()
    }

    /// Calls and waits for the reply: its payload, or the error's code and message.
    pub(crate) fn call(
        &mut self,
        procedure: Procedure,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, (i32, String)> {
        let serial = self.send(procedure, arguments);
        loop {
            let (header, payload) = self.receive();
            if header.message_type != MessageType::Reply.number() {
                continue;
            }
            assert_eq!(header.serial, serial);
            if header.status == 0 {
                return Ok(payload);
            }
            let mut reader = Reader::new(&payload);
            let code = reader.i32().unwrap();
            reader.i32().unwrap();
            let message = reader.optional(Reader::string).unwrap();
            return Err((code, message.unwrap()));
        }
    }

    /// A call about one domain, with further arguments behind it.
    pub(crate) fn call_domain(
        &mut self,
        daemon: &FakeLibvirtd,
        name: &str,
        procedure: Procedure,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, (i32, String)> {
        let domain = daemon.domains().get(name).unwrap();
        self.call(procedure, |out| {
            out.domain(&domain.name, domain.uuid, domain.id);
            arguments(out);
        })
    }

    /// Sends a bulk statistics call for these domains, or all.
    pub(crate) fn send_stats(&mut self, daemon: &FakeLibvirtd, names: &[&str], stats: u32, flags: u32) -> u32 {
        self.send(Procedure::ConnectGetAllDomainStats, |out| {
            write_stats(daemon, names, stats, flags, out);
        })
    }

    /// Calls for bulk statistics and returns the records.
    pub(crate) fn stats(
        &mut self,
        daemon: &FakeLibvirtd,
        names: &[&str],
        stats: u32,
        flags: u32,
    ) -> Result<Vec<Record>, (i32, String)> {
        let reply = self.call(Procedure::ConnectGetAllDomainStats, |out| {
            write_stats(daemon, names, stats, flags, out);
        })?;
        Ok(records(&reply))
    }
}

fn write_stats(daemon: &FakeLibvirtd, names: &[&str], stats: u32, flags: u32, out: &mut Writer) {
    out.count(names.len());
    for name in names {
        let domain = daemon.domains().get(name).unwrap();
        out.domain(&domain.name, domain.uuid, domain.id);
    }
    out.u32(stats).u32(flags);
}

/// The records of a bulk reply.
pub(crate) fn records(payload: &[u8]) -> Vec<Record> {
    let mut reader = Reader::new(payload);
    let count = reader.u32().unwrap();
    let records = (0..count)
        .map(|_| {
            let domain = reader.domain().unwrap();
            let params = reader.u32().unwrap();
            let keys = (0..params).map(|_| key(&mut reader)).collect();
            Record { name: domain.name, id: domain.id, params, keys }
        })
        .collect();
    assert!(reader.u32().is_err(), "bytes behind the last record");
    records
}

/// Takes a parameter; its key and type tag.
fn key(reader: &mut Reader<'_>) -> (String, i32) {
    let key = reader.string().unwrap();
    let tag = reader.i32().unwrap();
    match tag {
        1 | 2 | 6 => drop(reader.u32().unwrap()),
        3..=5 => drop((reader.u32().unwrap(), reader.u32().unwrap())),
        7 => drop(reader.string().unwrap()),
        other => panic!("type {other}"),
    }
    (key, tag)
}
