//! The endpoint at each path, and the parameters of a scrape.

use super::*;

#[tokio::test]
async fn each_route_answers_get_and_head() {
    let server = Server::start(Fake::default());
    let text = Format::Text.content_type();
    for (path, content_type, body) in [
        ("/", HTML, None),
        ("/libvirt/metrics", text, Some("libvirt_up 1\n")),
        ("/libvirt/metrics?collect[]=state", text, Some("libvirt_up 1\n")),
        ("http://somewhere/-/healthy", PLAIN, Some("domstats-exporter is healthy\n")),
        ("/-/healthy", PLAIN, Some("domstats-exporter is healthy\n")),
        ("/-/ready", PLAIN, Some("domstats-exporter is ready\n")),
    ] {
        let get = server.get(path).await;
        assert_eq!((get.code, get.header("content-type")), (200, Some(content_type)), "{path}");
        assert!(body.is_none_or(|body| body == get.body), "{path}: {}", get.body);
        let head = server.request("HEAD", path, "").await;
        assert_eq!((head.code, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
        assert_eq!(head.header("content-type"), Some(content_type));
    }
    let page = server.get("/").await.body;
    assert!(page.contains("<dd>test:///&lt;default&gt;</dd>") && page.contains("href=\"/libvirt/metrics\""));
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_what_there_is() {
    let server = Server::start(Fake::default());
    let known = "not found, available paths: /, /libvirt/metrics, /-/healthy, /-/ready, /-/config and /-/reload\n";
    for path in ["/metrics", "/libvirt/metrics/", "/-/", "//", "/..%2f", "nowhere", "*"] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, answer.body.as_str()), (404, known), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = server.request(method, "/libvirt/metrics", "Content-Length: 0\r\n").await;
        assert_eq!((answer.code, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(answer.body, "this path answers GET and HEAD only\n");
    }
    assert!(server.source.asked.lock().expect("not poisoned").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn the_scraper_chooses_format_and_timeout() {
    let server = Server::start(Fake::default());
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (headers, content_type, (asked, longest)) in [
        ("", PLAIN_METRICS, (Format::Text, 8.0)),
        ("Accept: application/openmetrics-text\r\n", open_metrics, (Format::OpenMetrics, 8.0)),
        (
            "Accept: text/plain;q=0.1\r\nAccept: application/openmetrics-text\r\n",
            open_metrics,
            (Format::OpenMetrics, 8.0),
        ),
        ("Accept: \u{fc}\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 10\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 1.500\r\n", PLAIN_METRICS, (Format::Text, 1.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 0.001\r\n", PLAIN_METRICS, (Format::Text, 0.2)),
        ("X-Prometheus-Scrape-Timeout-Seconds: soon\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: -1\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 0\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: NaN\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: inf\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 1e300\r\n", PLAIN_METRICS, (Format::Text, 8.0)),
    ] {
        let answer = server.request("GET", "/libvirt/metrics", headers).await;
        assert_eq!(answer.header("content-type"), Some(content_type), "{headers}");
        let (within, _) = server.source.asked.lock().expect("not poisoned").pop().expect("a scrape");
        let Form { format, .. } = server.source.rendered.lock().expect("not poisoned").pop().expect("a scrape");
        assert_eq!(format, asked, "{headers}");
        // The deadline, or the timeout less `collection.timeout_offset` and what was waited for.
        let within = within.as_secs_f64();
        assert!(within <= longest && within > longest / 2.0, "{headers}: {within}");
    }
    server.stop().await;
}

const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::test]
async fn what_the_source_cannot_do_is_said_in_its_words() {
    let server = Server::start(Fake { body: Err("the worker is gone".into()), ..Fake::default() });
    *server.source.ready.lock().expect("not poisoned") = Err("not connected to libvirt yet".into());
    let metrics = server.get("/libvirt/metrics").await;
    assert_eq!((metrics.code, metrics.body.as_str()), (500, "the worker is gone\n"));
    let ready = server.get("/-/ready").await;
    assert_eq!((ready.code, ready.body.as_str()), (503, "not connected to libvirt yet\n"));
    assert_eq!(server.get("/-/healthy").await.code, 200);
    server.get("/secret").await;
    server.request("POST", "/", "").await;
    let counted = server.source.counted.lock().expect("not poisoned").clone();
    assert_eq!(counted, [("/metrics", 500), ("/-/ready", 503), ("/-/healthy", 200), ("other", 404), ("/", 405)]);
    server.stop().await;
}

#[tokio::test]
async fn the_query_selects_and_a_bad_one_is_refused() {
    let server = Server::start(Fake::default());
    let query = "/libvirt/metrics?collect%5B%5D=block&collect[]=vm&domain[]=web-%5B0-9%5D";
    assert_eq!(server.get(query).await.code, 200);
    let (_, selection) = server.source.asked.lock().expect("not poisoned").pop().expect("a scrape");
    assert_eq!(selection.groups.expect("groups").len(), 2);
    assert!(selection.domains.is_match("web-7") && !selection.domains.is_match("web-77"));
    for (query, part) in [
        ("collect[]=state&exclude[]=vm", "cannot be combined"),
        ("collect[]=blok", "unknown group \"blok\", expected one of `state`, `cpu_total`,"),
        ("exclude[]=vcpu_kvm", "`vcpu_kvm` is not in the configuration's collection.groups"),
        ("domain[]=%28", "bad regular expression `(`: unclosed group"),
    ] {
        let answer = server.get(&format!("/libvirt/metrics?{query}")).await;
        assert_eq!(answer.code, 400, "{query}");
        assert!(answer.body.contains(part) && answer.body.lines().count() == 1, "{}", answer.body);
    }
    assert!(server.source.asked.lock().expect("not poisoned").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn the_coding_is_said_in_the_answer() {
    let server = Server::start(Fake::default());
    for (accepted, coding) in [("gzip", Some("gzip")), ("gzip, zstd", Some("zstd")), ("br", None), ("", None)] {
        let answer = server.request("GET", "/libvirt/metrics", &format!("Accept-Encoding: {accepted}\r\n")).await;
        assert_eq!(answer.header("content-encoding"), coding, "{accepted}");
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
        let Form { coding: asked, .. } = server.source.rendered.lock().expect("not poisoned").pop().expect("a scrape");
        assert_eq!(asked.as_str(), coding.unwrap_or("identity"));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let server = Server::start(Fake::default());
    let page = server.get("/-/config").await;
    assert_eq!((page.code, page.header("content-type")), (200, Some("application/yaml; charset=utf-8")));
    assert!(page.body.contains("uri: qemu+tls://<hidden>@host/system\n"), "{}", page.body);
    assert!(!page.body.contains("secret"));
    config::parse(&page.body, "page").expect("a configuration");
    server.stop().await;
}

#[tokio::test]
async fn reloading_is_allowed_or_refused_in_words() {
    let server = Server::start(Fake::default());
    let refused = server.request("POST", "/-/reload", "").await;
    let words = "reloading over HTTP is off: send SIGHUP, or start with --web.enable-lifecycle\n";
    assert_eq!((refused.code, refused.body.as_str()), (403, words));
    // The configuration is asked for with every request.
    *server.source.config.write().expect("not poisoned") = Arc::new(config("{enable_lifecycle: true}"));
    server.source.reloads.lock().expect("not poisoned").push(Err("x.yaml:1:1: bad".into()));
    let failed = server.request("POST", "/-/reload", "").await;
    assert_eq!((failed.code, failed.body.as_str()), (500, "x.yaml:1:1: bad\n"));
    let done = server.request("POST", "/-/reload", "Content-Length: 3\r\n\r\nabc").await;
    assert_eq!((done.code, done.body.as_str()), (200, "configuration reloaded\n"));
    let wrong = server.get("/-/reload").await;
    assert_eq!((wrong.code, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(wrong.body, "this path answers POST only\n");
    server.stop().await;
}

#[tokio::test]
async fn the_guests_are_served_as_targets_where_that_is_on() {
    let server = Server::start(Fake::default());
    assert_eq!(server.get("/sd").await.code, 404);
    assert!(!server.get("/").await.body.contains("Guests"));
    *server.source.config.write().expect("not poisoned") = Arc::new(discovering("{}", "/guests"));
    let get = server.get("/guests?x=y").await;
    assert_eq!((get.code, get.header("content-type"), get.body.as_str()), (200, Some(JSON), "[]"));
    assert_eq!((get.header("vary"), get.header("content-encoding")), (Some("Accept-Encoding"), None));
    let head = server.request("HEAD", "/guests", "").await;
    assert_eq!((head.code, head.header("content-length"), head.body.as_str()), (200, Some("2"), ""));
    let post = server.request("POST", "/guests", "").await;
    assert_eq!((post.code, post.header("allow")), (405, Some("GET, HEAD")));
    let headers = "Accept-Encoding: gzip\r\nX-Prometheus-Refresh-Interval-Seconds: 60\r\n";
    let zipped = server.request("GET", "/guests", headers).await;
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    let asked = server.source.discovered.lock().expect("not poisoned").clone();
    assert_eq!(asked[0], (Coding::Identity, None));
    assert!(asked[2].0 == Coding::Gzip && asked[2].1.is_some_and(|left| left > Duration::from_secs(30)), "{asked:?}");
    let nowhere = server.get("/sd").await;
    assert!(nowhere.code == 404 && nowhere.body.contains("available paths: /, /libvirt/metrics, /guests, /-/healthy,"));
    assert!(server.get("/").await.body.contains("<a href=\"/guests\">Guests</a>"));
    let counted = server.source.counted.lock().expect("not poisoned").clone();
    assert_eq!(counted[2..6], [("/sd", 200), ("/sd", 200), ("/sd", 405), ("/sd", 200)]);
    assert_eq!((counted[0], counted[6]), (("other", 404), ("other", 404)));
    server.stop().await;
}

#[tokio::test]
async fn there_is_no_list_of_targets_rather_than_a_part_of_it() {
    let config = RwLock::new(Arc::new(discovering("{max_requests: 1}", "/sd")));
    let groups = Err("libvirt is away".into());
    let server = Server::start(Fake { config, groups, permits: Semaphore::new(1), ..Fake::default() });
    let away = server.get("/sd").await;
    assert_eq!((away.code, away.header("content-type"), away.body.as_str()), (503, Some(PLAIN), "libvirt is away\n"));
    // The next one waits and counts towards the limit, which is that of the scrapes too.
    let (waiting, refused) = tokio::join!(server.get("/sd"), async {
        while server.source.discovered.lock().expect("not poisoned").len() < 2 {
            sleep(Duration::from_millis(5)).await;
        }
        let refused = [server.get("/sd").await, server.get("/libvirt/metrics").await];
        server.source.permits.add_permits(1);
        refused
    });
    assert_eq!(waiting.body, "libvirt is away\n");
    for refused in refused {
        assert_eq!((refused.code, refused.header("retry-after")), (503, Some("1")));
        assert!(refused.body.contains("the limit of 1 scrapes at a time"), "{}", refused.body);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_probe_is_answered_as_metrics_are_for_its_daemon() {
    let source = Fake { config: RwLock::new(Arc::new(probing())), ..Fake::default() };
    let server = Server::start(source);
    let known = "not found, available paths: /, /libvirt/metrics, /probe, /probe-targets, /-/healthy, /-/ready, /-/config and /-/reload\n";
    assert_eq!(server.get("/nowhere").await.body, known);
    for (path, code, body) in [
        ("/probe?target=a", 200, "libvirt_up 1\n"),
        ("/probe?target=a&collect[]=state", 200, "libvirt_up 1\n"),
        (
            "/probe?target=a&collect[]=block",
            400,
            "collect[]: the group `block` is not in the configuration's collection.groups, which are `state`\n",
        ),
        ("/probe", 400, "expected one parameter target that is not empty, as in /probe?target=NAME\n"),
        (
            "/probe?target=a&target=b",
            400,
            "expected one parameter target that is not empty, as in /probe?target=NAME\n",
        ),
        ("/probe?target=unknown", 404, "unknown target \"unknown\", /probe-targets lists the known ones\n"),
        ("/probe?target=x:///", 403, "probe.allow does not match the URI \"x:///\"\n"),
        ("/probe?target=a&profile=p", 400, "unknown profile \"p\", expected one of `default`\n"),
        (
            "/probe?target=full",
            503,
            "the limit of 7 connections to targets (probe.max_connections) is reached, try again\n",
        ),
        ("/probe-targets", 200, "[]h"),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, answer.body.as_str()), (code, body), "{path}");
        assert_eq!(answer.header("retry-after").is_some(), code == 503);
    }
    server.get("/libvirt/metrics").await;
    assert_eq!(*server.source.probed.lock().expect("not poisoned"), ["a", "a", ""]);
    assert!(server.source.counted.lock().expect("not poisoned").contains(&("/probe", 404)));
    assert_eq!(server.request("POST", "/probe?target=a", "Content-Length: 0\r\n").await.code, 405);
    server.stop().await;
    let server = Server::start(Fake::default());
    assert_eq!((server.get("/probe?target=a").await.code, server.get("/probe-targets").await.code), (404, 404));
    server.stop().await;
}

#[tokio::test]
async fn daemons_that_do_not_answer_hold_up_no_other() {
    let source = Fake { config: RwLock::new(Arc::new(probing())), ..Fake::default() };
    let server = Server::start(source);
    let mut hanging = Vec::new();
    // More of them than different work that goes on at a time.
    for number in 0..8 {
        let mut stream = server.connect().await;
        let request = format!("GET /probe?target=hangs-{number} HTTP/1.1\r\nHost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        hanging.push(stream);
    }
    while server.source.probed.lock().expect("not poisoned").len() < 8 {
        sleep(Duration::from_millis(1)).await;
    }
    for path in ["/probe?target=a", "/libvirt/metrics"] {
        let answer = timeout(Duration::from_secs(60), server.get(path)).await.expect("at once");
        assert_eq!(answer.code, 200, "{path}");
    }
}
