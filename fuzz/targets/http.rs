//! Whatever a client sends, over the loopback interface to the server as it is, on libvirt's test driver.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use domstats_exporter::app::{Exporter, Service};
use domstats_exporter::web::{self, Security};
use domstats_exporter::{config, log};

static SERVER: LazyLock<SocketAddr> = LazyLock::new(start);

fn start() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (sender, listening) = mpsc::channel();
    std::thread::spawn(move || {
        let text = format!(
            "{{libvirt: {{uri: 'test:///default'}}, web: {{listen_addresses: ['{free}'], enable_lifecycle: true}}, \
             service_discovery: {{enabled: true}}, log: {{level: error}}}}"
        );
        let config = config::parse(&text, "fuzz").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let security = Arc::new(Security::load(None).unwrap());
            let exporter = Exporter::start(&config, Some(Arc::clone(&security))).unwrap();
            let listeners = web::bind(&config.web).unwrap();
            let log = log::init(config.log).unwrap();
            let again = config.clone();
            let service = Service::new(exporter, Arc::clone(&security), log, Arc::new(move || Ok(again.clone())));
            sender.send(()).unwrap();
            web::serve(listeners, security, Arc::new(service), std::future::pending()).await;
        });
    });
    listening.recv().unwrap();
    free
}

/// The server answers in HTTP or hangs up, soon.
pub(crate) fn http(data: &[u8]) {
    let mut stream = loop {
        match TcpStream::connect(*SERVER) {
            Ok(stream) => break stream,
            // So many connections before this one that no port is left; the kernel gives them back.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => panic!("the server is gone: {error}"),
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may hang up before it has read all.
    let _ = stream.write_all(data).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no answer"),
        // What it hung up on was not read to the end.
        _ => {}
    }
    let start = &answer[..answer.len().min(7)];
    assert!(b"HTTP/1.".starts_with(start), "no answer of HTTP: {start:?}");
}
