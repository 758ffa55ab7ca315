//! The same questions to a real libvirtd and to the fake one: the shapes of the answers agree.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fake_libvirtd::stats::{flag, group};
use fake_libvirtd::{Domain, DomainState, FakeLibvirtd, Identity, Procedure, Scenario, Template};
use support::raw::{RawClient, records};
use support::real::RealLibvirtd;
use support::{Ended, Said, start_virsh_at};

const SOON: Duration = Duration::from_secs(60);

/// Both daemons, each with one guest of the same name and shape.
struct Pair {
    real: RealLibvirtd,
    fake: FakeLibvirtd,
    /// All that differs, told together at the end.
    differences: RefCell<Vec<String>>,
}

impl Pair {
    fn start() -> Self {
        let real = RealLibvirtd::start();
        let fake = FakeLibvirtd::start(Scenario::default()).unwrap();
        Self { real, fake, differences: RefCell::default() }
    }

    fn define_guest(&self) {
        self.real.define_guest();
        let guest = Domain::new(&self.real.guest, Template::small());
        self.fake.domains().add(guest.with_state(DomainState::Shutoff));
    }

    /// The same command line on both: each must end the same way and say the same, but for numbers and names.
    fn same(&self, arguments: &[&str]) {
        let real = start_virsh_at(&self.real.uri(), arguments).wait(SOON);
        let fake = start_virsh_at(&self.fake.uri(), arguments).wait(SOON);
        if shape(&fake) != shape(&real) {
            self.differs(format!(
                "{arguments:?}
real: {real:?}
fake: {fake:?}"
            ));
        }
    }

    fn differs(&self, what: String) {
        self.differences.borrow_mut().push(what);
    }

    fn guest_of(&self, socket: &Path) -> Identity {
        let mut client = RawClient::open_at(socket, false);
        let reply = client.call(Procedure::DomainLookupByName, |out| {
            out.string(&self.real.guest);
        });
        let domain = fake_libvirtd::xdr::Reader::new(&reply.unwrap()).domain().unwrap();
        Identity { name: domain.name, uuid: domain.uuid, id: u32::try_from(domain.id).ok() }
    }

    /// The error codes that both daemons answer a call with.
    fn codes(
        &self,
        procedure: Procedure,
        arguments: impl Fn(&mut fake_libvirtd::xdr::Writer, &Identity),
    ) -> [Result<(), i32>; 2] {
        [self.real.socket(), self.fake.socket().to_owned()].map(|socket| {
            let guest = self.guest_of(&socket);
            let mut client = RawClient::open_at(&socket, false);
            let reply = client.call(procedure, |out| arguments(out, &guest));
            reply.map(drop).map_err(|(code, _)| code)
        })
    }

    fn same_code(&self, procedure: Procedure, arguments: impl Fn(&mut fake_libvirtd::xdr::Writer, &Identity)) {
        let [real, fake] = self.codes(procedure, arguments);
        if fake != real {
            self.differs(format!("{procedure:?}: real {real:?}, fake {fake:?}"));
        }
    }

    /// The keys with types that both daemons send for all domains, numbers in keys replaced.
    fn keys(&self, stats: u32, flags: u32) -> [BTreeMap<String, i32>; 2] {
        [self.real.socket(), self.fake.socket().to_owned()].map(|socket| {
            let mut client = RawClient::open_at(&socket, false);
            let reply = client.call(Procedure::ConnectGetAllDomainStats, |out| {
                out.u32(0).u32(stats).u32(flags);
            });
            let records = records(&reply.unwrap());
            assert_eq!(records.len(), 1);
            let keys = records.into_iter().flat_map(|record| record.keys);
            keys.map(|(key, tag)| (without_numbers(&key), tag)).collect()
        })
    }

    fn same_keys(&self, stats: u32, flags: u32) {
        let [real, fake] = self.keys(stats, flags);
        if fake != real {
            let lacks: Vec<_> = real.iter().filter(|one| fake.get(one.0) != Some(one.1)).collect();
            let adds: Vec<_> = fake.iter().filter(|one| real.get(one.0) != Some(one.1)).collect();
            self.differs(format!("groups 0x{stats:x}, flags 0x{flags:x}: the fake lacks {lacks:?} and adds {adds:?}"));
        }
    }
}

/// Digits, and what only one run has, made equal.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            if !out.ends_with('#') {
                out.push('#');
            }
        } else {
            out.push(letter);
        }
    }
    out
}

/// How a program ended and the words it said, without numbers, UUIDs and paths.
fn shape(said: &Said) -> (bool, Vec<String>) {
    let text = format!("{}\n{}", said.out, said.err);
    let words = text.split_whitespace().map(|word| {
        if word.len() == 36 && word.matches('-').count() == 4 {
            return "UUID".to_owned();
        }
        if word.contains("/sock") {
            return "SOCKET".to_owned();
        }
        without_numbers(word).replace("#.#", "#")
    });
    // Lines of dashes are as long as the names above them.
    let words = words.filter(|word| word.chars().any(|letter| letter != '-'));
    (said.ended == Ended::Ok, words.collect())
}

#[test]
fn the_fake_answers_in_the_shape_of_the_real_one() {
    let pair = Pair::start();
    let guest = pair.real.guest.clone();
    let guest = guest.as_str();

    // Without any domain.
    for arguments in
        [&["list", "--all"][..], &["domstats"], &["domstate", "nobody"], &["domstats", "nobody"], &["version"]]
    {
        pair.same(arguments);
    }

    // Defined, and shut off.
    pair.define_guest();
    let commands = |active: bool| {
        let mut all = vec![
            vec!["list", "--all"],
            vec!["list", "--all", "--title"],
            vec!["list", "--inactive", "--name"],
            vec!["list", "--all", "--autostart"],
            vec!["list", "--all", "--with-managed-save", "--persistent"],
            vec!["list", "--all", "--without-snapshot", "--without-checkpoint", "--transient"],
            vec!["domstate", guest],
            vec!["domid", guest],
            vec!["domcontrol", guest],
            vec!["domjobinfo", guest],
            vec!["domstats", "--list-active", "--state"],
            vec!["domstats", "--list-inactive", "--state"],
            vec!["domstats", "--state", guest],
            vec!["desc", guest],
            vec!["metadata", guest, "--uri", "urn:none"],
            vec!["domifaddr", guest, "--source", "agent"],
            vec!["-r", "destroy", guest],
            vec!["-r", "dumpxml", "--security-info", guest],
            vec!["domblkstat", guest, "vdz"],
            vec!["domifstat", guest, "nosuch"],
            vec!["domblkstat", guest, "vda"],
            vec!["domblkstat", "--human", guest, "vda"],
            vec!["dommemstat", guest],
            vec!["domblkerror", guest],
            vec!["guestinfo", guest],
        ];
        if !active {
            all.push(vec!["domifaddr", guest, "--source", "lease"]);
            all.push(vec!["suspend", guest]);
        }
        all
    };
    for arguments in commands(false) {
        pair.same(&arguments);
    }
    pair.same_keys(0, 0);
    pair.same_keys(0, flag::BACKING);
    let about_domain = |out: &mut fake_libvirtd::xdr::Writer, guest: &Identity| {
        out.domain(&guest.name, guest.uuid, guest.id).u32(0);
    };
    pair.same_code(Procedure::DomainGetControlInfo, about_domain);
    pair.same_code(Procedure::DomainGetJobStats, about_domain);

    // Running (paused, so that it costs nothing).
    pair.same(&["start", guest]);
    for arguments in commands(true) {
        pair.same(&arguments);
    }
    for arguments in [&["suspend", guest][..], &["resume", guest], &["suspend", guest]] {
        pair.same(arguments);
        pair.same(&["domstate", "--reason", guest]);
    }
    pair.same_keys(0, 0);
    pair.same_keys(0, flag::NOWAIT | flag::BACKING);
    for bit in 0..11 {
        pair.same_keys(1 << bit, 0);
    }
    pair.same_keys(1 << 20, 0);

    // What is refused.
    pair.same_code(Procedure::DomainGetMetadata, |out, guest| {
        out.domain(&guest.name, guest.uuid, guest.id).i32(1).u32(0).u32(0);
    });
    pair.same_code(Procedure::ConnectGetAllDomainStats, |out, _| {
        out.u32(0).u32(0).u32(1 << 20);
    });
    pair.same_code(Procedure::ConnectGetAllDomainStats, |out, _| {
        out.u32(0).u32(1 << 20).u32(flag::ENFORCE);
    });
    pair.same_code(Procedure::DomainLookupById, |out, _| {
        out.i32(-5);
    });
    pair.same_code(Procedure::DomainLookupById, |out, _| {
        out.i32(4000);
    });
    pair.same_code(Procedure::DomainGetState, |out, guest| {
        out.domain(&guest.name, uuid(), guest.id).u32(0);
    });
    pair.same_code(Procedure::ConnectDomainEventCallbackRegisterAny, |out, _| {
        out.i32(99).u32(0);
    });
    pair.same_code(Procedure::ConnectDomainEventCallbackDeregisterAny, |out, _| {
        out.i32(99);
    });
    pair.same_code(Procedure::Other(4000), |_, _| {});
    pair.same_code(Procedure::DomainGetXmlDesc, |out, _| {
        out.u32(7);
    });

    frozen(&pair);
    events(&pair);
    let differences = pair.differences.take();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// A UUID that no domain has.
fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

/// A QEMU that does not answer: who has its job, and what the others get.
fn frozen(pair: &Pair) {
    pair.real.signal_guest("-STOP");
    pair.fake.faults().hang_domain(&pair.real.guest);
    let sockets = [pair.real.socket(), pair.fake.socket().to_owned()];
    let mut blocked = sockets.each_ref().map(|socket| RawClient::open_at(socket, false));
    for client in &mut blocked {
        client.send(Procedure::ConnectGetAllDomainStats, |out| {
            out.u32(0).u32(0).u32(flag::NOWAIT);
        });
    }
    assert!(pair.fake.wait_until_hung(&pair.real.guest, SOON));
    std::thread::sleep(Duration::from_millis(500));
    pair.same_keys(0, flag::NOWAIT);
    pair.same_keys(group::STATE | group::INTERFACE, 0);
    pair.same(&["domcontrol", &pair.real.guest]);
    pair.real.signal_guest("-CONT");
    pair.fake.release(&pair.real.guest);
    let [real, fake] = blocked.each_mut().map(|client| {
        let (header, payload) = client.receive();
        assert_eq!(header.status, 0);
        records(&payload).remove(0).keys.len()
    });
    if fake != real {
        pair.differs(format!("keys after the thaw: real {real}, fake {fake}"));
    }
}

/// The events of a life, in their order.
fn events(pair: &Pair) {
    let guest = pair.real.guest.as_str();
    let [real, fake] = [pair.real.uri(), pair.fake.uri()].map(|uri| {
        let watching = start_virsh_at(&uri, &["event", "--event", "lifecycle", "--loop"]);
        // There is nothing that tells when it has registered.
        std::thread::sleep(Duration::from_secs(2));
        for command in ["resume", "suspend", "destroy", "start", "destroy"] {
            start_virsh_at(&uri, &[command, guest]).wait(SOON).ok();
        }
        let ends = |said: &str| said.matches("Stopped Destroyed").count() == 2;
        watching.interrupt_after(ends).out
    });
    if fake != real {
        pair.differs(format!("events:\nreal:\n{real}\nfake:\n{fake}"));
    }
}
