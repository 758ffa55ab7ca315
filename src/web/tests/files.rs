//! The web configuration file, and what becomes of it when it changes.

use super::*;

/// A web configuration file that is deleted with the folder.
fn web_file(folder: &tempfile::TempDir, yaml: &str) -> std::path::PathBuf {
    let path = folder.path().join("web.yaml");
    // Renamed into place, as every careful writer does it.
    std::fs::write(folder.path().join("new"), yaml).expect("written");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    path
}

#[tokio::test]
async fn passwords_guard_every_route_and_change_with_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let hash = |password: &str| bcrypt::hash(password, 4).expect("hashed");
    let users = |password: &str| format!("basic_auth_users: {{alice: '{}'}}\n", hash(password));
    let path = web_file(&folder, &users("secret"));
    let server = Server::start_on(Fake::default(), Security::load(Some(&path)).expect("good"));
    let alice = |password: &str| {
        let credentials =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("alice:{password}"));
        format!("Authorization: Basic {credentials}\r\n")
    };
    for path in ["/", "/libvirt/metrics", "/-/healthy", "/-/ready", "/-/config", "/-/reload", "/nowhere"] {
        let refused = server.get(path).await;
        assert_eq!((refused.code, refused.body.as_str()), (401, "user name and password are required\n"), "{path}");
        assert!(refused.header("www-authenticate").is_some_and(|asks| asks.starts_with("Basic realm=")));
        assert_eq!(server.request("GET", path, &alice("wrong")).await.code, 401, "{path}");
        assert_ne!(server.request("GET", path, &alice("secret")).await.code, 401, "{path}");
    }
    web_file(&folder, &users("changed"));
    assert_eq!(server.request("GET", "/", &alice("secret")).await.code, 401);
    assert_eq!(server.request("GET", "/", &alice("changed")).await.code, 200);
    // A broken file opens nothing and closes nothing.
    web_file(&folder, "basic_auth_users: [");
    assert_eq!(server.get("/").await.code, 401);
    assert_eq!(server.request("GET", "/", &alice("changed")).await.code, 200);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(server.get("/").await.code, 401);
    assert_eq!(server.request("GET", "/", &alice("changed")).await.code, 200);
    web_file(&folder, "{}");
    assert_eq!(server.get("/").await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn headers_and_rate_limit_come_from_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = "http_server_config: {headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=1}}\n\
                rate_limit: {interval: 1h, burst: 3}\n";
    let path = web_file(&folder, yaml);
    let server = Server::start_on(Fake::default(), Security::load(Some(&path)).expect("good"));
    for code in [200, 200, 200, 429, 429] {
        let answer = server.get("/-/healthy").await;
        assert_eq!(answer.code, code);
        assert_eq!(answer.header("x-frame-options"), Some("deny"));
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=1"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    server.stop().await;
}
