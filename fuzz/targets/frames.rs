//! A daemon that means harm: the frames of a good one, changed on their way to the client as the input says.
//!
//! Apart from the other targets: it works on libvirt's client library, of which a process has one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "input.rs"]
mod input;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use domstats_exporter::domains::parse_definition;
use domstats_exporter::libvirt::{
    Access, Connection, DomainList, LibvirtError, Records, StatsGroups as G, StatsRequest,
};
use fake_libvirtd::frame::{HEADER_LEN, Header, KEEPALIVE_PROGRAM, REMOTE_PROGRAM, read_frame};
use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use input::Input;

/// How many domains the good daemon has.
const DOMAINS: usize = 3;
/// A client that is silent for so long waits for a frame that will not come; what is left of it then is a connection that
/// ends. Nothing is changed on connections of the second kind, which may be slow.
const PATIENCE: [Duration; 2] = [Duration::from_millis(60), Duration::from_secs(30)];

static PROXY: LazyLock<Proxy> = LazyLock::new(Proxy::start);
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
/// Whether the connection is open. libvirt's client follows a null pointer when an event comes before that (found by this
/// target, in libvirt 9.0.0); nothing can be done about it from outside, so none is sent.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Opens, asks for everything and closes. Now and then nothing is changed, and then all must be well.
pub fn frames(data: &[u8]) {
    let is_check = EXECUTIONS.fetch_add(1, Ordering::Relaxed) % 50 == 49;
    let script = if is_check { &[] } else { data };
    *PROXY.script.lock().unwrap_or_else(PoisonError::into_inner) = script.to_vec();
    let talked = talk(&PROXY.uri);
    if script.is_empty() {
        assert_eq!(talked.expect("a good daemon"), DOMAINS, "the domains of a good daemon");
    }
}

/// All that the exporter ever asks; how many domains have statistics.
fn talk(uri: &str) -> Result<usize, LibvirtError> {
    IS_OPEN.store(false, Ordering::SeqCst);
    let connection = Connection::open(uri, Access::ReadOnly, || {})?;
    IS_OPEN.store(true, Ordering::SeqCst);
    // One after the other even where one fails: the next must stand a connection in any state.
    let _ = connection.watch_events(Arc::new(|_| {}));
    let _ = connection.versions();
    let _ = connection.hostname();
    for which in [DomainList::Active, DomainList::Inactive] {
        for domain in connection.list_domains(which).unwrap_or_default() {
            let _ = domain.info(&connection);
            let _ = domain.control_state(&connection);
            if let Ok(xml) = domain.xml_description(&connection) {
                let _ = parse_definition(&xml, &domstats_exporter::config::Config::default().metadata.labels);
            }
        }
    }
    let all = [G::STATE, G::CPU_TOTAL, G::BALLOON, G::VCPU, G::INTERFACE, G::BLOCK, G::PERF, G::IOTHREAD, G::MEMORY];
    let request = StatsRequest { groups: all.into_iter().collect(), domains: None, backing_chain: true, nowait: true };
    let mut records = Records::default();
    connection.fetch_stats(request, |_, _| true, &mut records)?;
    // Whatever came is whole.
    let params: usize = records.domains().map(|domain| domain.params().len()).sum();
    assert_eq!(params, records.param_count());
    Ok(records.domains().len())
}

/// Between the client and a fake daemon.
struct Proxy {
    uri: String,
    /// What is to be done with the frames of the next connection.
    script: Arc<Mutex<Vec<u8>>>,
    _daemon: FakeLibvirtd,
}

impl Proxy {
    fn start() -> Self {
        let scenario = Scenario::builder().domains(DOMAINS, Template::small()).build();
        let daemon = FakeLibvirtd::start(scenario).unwrap();
        let folder = std::env::temp_dir().join(format!("frames-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let script = Arc::new(Mutex::new(Vec::new()));
        let (of_next, socket) = (Arc::clone(&script), daemon.socket().to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let script = of_next.lock().unwrap_or_else(PoisonError::into_inner).clone();
                serve(client, &socket, script);
            }
        });
        Self { uri: format!("qemu+unix:///system?socket={}", path.display()), script, _daemon: daemon }
    }
}

/// Forwards bytes in both directions until one side disconnects or the client's wait times out.
fn serve(client: UnixStream, socket: &PathBuf, script: Vec<u8>) {
    let daemon = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(PATIENCE[usize::from(script.is_empty())])).unwrap();
    let (mut to_client, mut from_daemon) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
    thread::spawn(move || {
        let mut script = Input::new(&script);
        while let Ok(Some((header, payload))) = read_frame(&mut from_daemon) {
            let frame = change(&mut script, header, payload);
            if to_client.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut client, mut daemon) = (client, daemon);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            if daemon.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = daemon.shutdown(Shutdown::Both);
    });
}

/// The bytes to send in place of a frame. A script that has run dry changes nothing.
fn change(script: &mut Input<'_>, mut header: Header, mut payload: Vec<u8>) -> Vec<u8> {
    let word = |script: &mut Input<'_>| {
        let random = u32::from_le_bytes([script.byte(), script.byte(), script.byte(), script.byte()]);
        script.pick(&[0, 1, 2, u32::MAX, 0x7fff_ffff, 0x0100_0000, random, random])
    };
    match script.byte() % 16 {
        // Most pass, so that the later calls are reached.
        0..6 => {}
        // Some words of the payload: counts, lengths, types, characters.
        6..11 if payload.len() >= 4 => {
            for _ in 0..=script.below(4) {
                let place = script.below(payload.len() / 4) * 4;
                payload[place..place + 4].copy_from_slice(&word(script).to_be_bytes());
            }
        }
        11 if !payload.is_empty() => {
            let place = script.below(payload.len());
            payload[place] = script.byte();
        }
        12 => payload.truncate(script.below(payload.len() + 1)),
        13 => match script.byte() % 6 {
            0 => header.program = script.pick(&[REMOTE_PROGRAM, KEEPALIVE_PROGRAM, 0x2000_8087, 7]),
            1 => header.procedure = word(script).cast_signed(),
            2 => header.message_type = word(script) % 8,
            3 => header.serial = word(script),
            4 => header.status = word(script) % 5,
            _ => header.version = word(script),
        },
        14 => {
            // The length word lies.
            let mut frame = header.frame(&payload);
            frame[..4].copy_from_slice(&word(script).to_be_bytes());
            return frame;
        }
        15 => {
            // An event that was not requested comes first, or the frame comes twice, or garbage follows.
            let mut frame = header.frame(&payload);
            match script.byte() % 3 {
                0 if IS_OPEN.load(Ordering::SeqCst) => {
                    let procedure = i32::try_from(300 + script.below(150)).unwrap();
                    let body: Vec<u8> = (0..script.below(120)).map(|_| script.byte()).collect();
                    frame.splice(0..0, Header::message(REMOTE_PROGRAM, procedure).frame(&body));
                }
                1 => frame.extend_from_within(..),
                _ => frame.extend((0..script.below(HEADER_LEN * 2)).map(|_| script.byte())),
            }
            return frame;
        }
        _ => {}
    }
    header.frame(&payload)
}
