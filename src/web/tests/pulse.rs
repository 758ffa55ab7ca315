use super::*;

#[tokio::test]
async fn a_loop_beats_while_it_turns_and_not_when_it_has_ended() {
    let web = config::parse("web: {listen_addresses: ['127.0.0.1:0']}", "test").expect("a configuration").web;
    let listeners = bind(&web).expect("bound");
    let pulse = listeners[0].pulse();
    let asked = tokio::spawn({
        let pulse = pulse.clone();
        async move { pulse.beats().await }
    });
    tokio::task::yield_now().await;
    assert!(!asked.is_finished(), "the loop does not run yet");
    let (stop, stopped) = oneshot::channel::<()>();
    let security = Arc::new(Security::load(None).expect("nothing to load"));
    let server = tokio::spawn(serve(listeners, security, Arc::new(Fake::default()), async move {
        stopped.await.unwrap_or_default();
    }));
    assert!(asked.await.expect("no panic"));
    assert!(pulse.beats().await);
    drop(stop);
    server.await.expect("no panic");
    assert!(!pulse.beats().await);
}
