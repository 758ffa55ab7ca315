//! Figures for many domains: `cargo run --release -p fake-libvirtd --example scale [DOMAINS] [BATCH]`, on one core with
//! `taskset -c 0` in front. A client of the bare protocol asks for all statistics, batch by batch, and reads them without
//! looking at them, so that what is measured is the daemon and the socket.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fake_libvirtd::frame::{HEADER_LEN, Header, MessageType, REMOTE_PROGRAM};
use fake_libvirtd::xdr::Writer;
use fake_libvirtd::{Domain, FakeLibvirtd, Procedure, Scenario, Template};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (count, batch) = (number(10_000)?, number(1_000)?);
    let mut out = io::stdout();

    let began = Instant::now();
    let scenario = Scenario::builder().domains(count, Template::medium());
    let daemon = FakeLibvirtd::start(scenario.build())?;
    writeln!(out, "{count} domains of 270 parameters, batches of {batch}")?;
    writeln!(out, "start: {:.3} s", began.elapsed().as_secs_f64())?;

    let names = daemon.domains().names();
    let domains: Vec<Domain> = names.iter().filter_map(|name| daemon.domains().get(name)).collect();
    let mut stream = UnixStream::connect(daemon.socket())?;
    for (pass, what) in ["first (encodes)", "unchanged", "counters grown"].iter().enumerate() {
        if pass == 2 {
            daemon.advance(Duration::from_secs(15));
        }
        daemon.counters().reset();
        let (began, cpu_before) = (Instant::now(), cpu_seconds()?);
        let mut bytes = 0;
        for batch in domains.chunks(batch) {
            bytes += ask(&mut stream, batch)?;
        }
        let (wall, cpu) = (began.elapsed(), cpu_seconds()? - cpu_before);
        let calls = daemon.counters().log_of(Procedure::ConnectGetAllDomainStats);
        let served: Duration = calls.iter().filter_map(|call| call.duration).sum();
        writeln!(
            out,
            "{what}: {:.3} s from first call to last byte, {:.3} s of them in the daemon, {cpu:.2} s of CPU, {bytes} bytes, {} calls",
            wall.as_secs_f64(),
            served.as_secs_f64(),
            calls.len()
        )?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    writeln!(out, "peak memory of daemon and client: {}", peak.unwrap_or("unknown"))?;
    Ok(())
}

/// CPU time of this process, daemon and client together, in the kernel's steps of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no such process")?;
    let ticks: Result<Vec<u32>, _> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
    Ok(f64::from(ticks?.iter().sum::<u32>()) / 100.0)
}

/// Asks for all statistics of some domains and reads the reply; its length.
fn ask(stream: &mut UnixStream, domains: &[Domain]) -> io::Result<usize> {
    let mut arguments = Writer::new();
    arguments.count(domains.len());
    for domain in domains {
        arguments.domain(&domain.name, domain.uuid, domain.id);
    }
    arguments.u32(0).u32(0);
    let header = Header {
        program: REMOTE_PROGRAM,
        version: 1,
        procedure: Procedure::ConnectGetAllDomainStats.number(),
        message_type: MessageType::Call.number(),
        serial: 1,
        status: 0,
    };
    stream.write_all(&header.frame(&arguments.into_bytes()))?;
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head)?;
    if head[24..] != [0; 4] {
        return Err(io::Error::other("the daemon answered with an error; try smaller batches"));
    }
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let rest = u64::from(len).saturating_sub(28);
    io::copy(&mut stream.take(rest), &mut io::sink())?;
    usize::try_from(len).map_err(io::Error::other)
}
