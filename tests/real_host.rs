//! The host, its storage pools and its networks beside virsh, on a real libvirtd: this machine's, and the newest packaged one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs
)]

#[path = "support/lab.rs"]
#[allow(dead_code, reason = "other test programs use the rest of it")]
mod lab;
#[path = "support/reading.rs"]
#[allow(dead_code, reason = "other test programs use the rest of it")]
mod reading;

use std::fs;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Exporter, Lab, Suite, need, run_exporter};
use reading::{Sample, parse_exposition};

/// The value behind `name:` or `name :` in what virsh prints, up to the first space.
fn told(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// More than a busy machine takes for anything here.
const SOON: Duration = Duration::from_secs(180);

/// A network that is stopped in the end: its bridge would outlive the lab.
struct Network<'l>(&'l Lab, &'static str);

impl<'l> Network<'l> {
    /// Starts it; `None` where the machine does not allow that.
    fn start(lab: &'l Lab, name: &'static str) -> Option<Self> {
        match lab.virsh(&["net-start", name]) {
            Ok(_) => Some(Self(lab, name)),
            Err(error) => {
                println!("net-start: {error}");
                None
            }
        }
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        // It may be stopped already.
        let _stopped = self.0.virsh(&["net-destroy", self.1]);
    }
}

#[derive(Debug)]
struct Shown(Vec<Sample>);

impl Shown {
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|shown| shown == value))
        };
        self.0.iter().filter(|sample| sample.name == name).find(has).map(|sample| sample.value)
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in {:#?}", self.0))
    }
}

/// Bridges and addresses are the machine's: one lab has them at a time.
static NETWORKS: Mutex<()> = Mutex::new(());

#[test]
fn the_host_its_pools_and_its_networks_are_as_virsh_says() {
    let _alone = NETWORKS.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start(Suite::Machine).unwrap();
    compare(&lab);
    follow_leases(&lab);
}

#[test]
fn the_host_its_pools_and_its_networks_are_as_the_newest_virsh_says() {
    let _alone = NETWORKS.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::start(Suite::Debian("sid")).unwrap();
    println!("{}", lab.virsh(&["version"]).unwrap());
    compare(&lab);
    follow_leases(&lab);
}

/// The host, pools that are started or not, and a network.
fn compare(lab: &Lab) {
    for (pool, started) in [("images", true), ("spare", false)] {
        let folder = lab.folder().join(pool);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("volume.raw"), vec![1; 3 << 20]).unwrap();
        lab.virsh(&["pool-define-as", pool, "dir", "--target", folder.to_str().unwrap()]).unwrap();
        if started {
            lab.virsh(&["pool-start", pool]).unwrap();
            lab.virsh(&["pool-autostart", pool]).unwrap();
        }
    }
    let xml = lab.folder().join("network.xml");
    let bridge = format!("labq{}", std::process::id());
    fs::write(&xml, format!("<network><name>quiet</name><bridge name='{bridge}'/></network>")).unwrap();
    lab.virsh(&["net-define", xml.to_str().unwrap()]).unwrap();
    // A machine may not let this user make a bridge: then it stays inactive, and so it is compared.
    let _network = Network::start(lab, "quiet");
    let scraped = run_exporter(&["scrape", "--libvirt.uri", &lab.uri_ro, "--format", "openmetrics"]).unwrap();
    let shown = Shown(parse_exposition(&scraped).unwrap());

    let memory = lab.virsh(&["nodememstats"]).unwrap();
    let total = told(&memory, "total").parse::<f64>().unwrap() * 1024.0;
    assert_eq!(shown.value("libvirt_host_memory_bytes", &[]), total);
    for (of, name) in [("free", "libvirt_host_memory_free_bytes"), ("cached", "libvirt_host_memory_cached_bytes")] {
        // It moves while it is compared.
        let is = told(&memory, of).parse::<f64>().unwrap() * 1024.0;
        assert!((shown.value(name, &[]) - is).abs() < total / 5.0, "{name}: {is} of {total}");
    }
    let info = lab.virsh(&["nodeinfo"]).unwrap();
    for (of, name) in [
        ("CPU socket(s)", "libvirt_host_cpu_sockets_per_node"),
        ("Core(s) per socket", "libvirt_host_cpu_cores_per_socket"),
        ("Thread(s) per core", "libvirt_host_cpu_threads_per_core"),
        ("NUMA cell(s)", "libvirt_host_numa_nodes"),
    ] {
        assert_eq!(shown.value(name, &[]).to_string(), told(&info, of), "{name}");
    }
    let cpus = lab.virsh(&["nodecpumap"]).unwrap();
    assert_eq!(shown.value("libvirt_host_cpus_present", &[]).to_string(), told(&cpus, "CPUs present"));
    let pages = lab.virsh(&["freepages", "--all"]).unwrap();
    let (mut node, mut sizes) = (String::new(), 0);
    for line in pages.lines().map(str::trim) {
        if let Some(number) = line.strip_prefix("Node ") {
            node = number.trim_end_matches(':').to_owned();
        } else if let Some((size, free)) = line.split_once("KiB:") {
            let size = size.parse::<u64>().unwrap() * 1024;
            let labels = [("node", node.as_str()), ("page_size", &size.to_string())];
            let free: f64 = free.trim().parse().unwrap();
            let is_huge = size > 65536;
            assert_eq!(shown.get("libvirt_host_hugepages_free", &labels), is_huge.then_some(free), "{labels:?}");
            sizes += usize::from(is_huge);
            if is_huge {
                assert!(shown.value("libvirt_host_hugepages", &labels) >= free);
            }
        }
    }
    println!("{sizes} sizes of huge pages");

    for pool in ["images", "spare"] {
        let info = lab.virsh(&["pool-info", "--bytes", pool]).unwrap();
        let of = [("pool", pool)];
        let state = told(&info, "State");
        assert_eq!(shown.value("libvirt_pool_state", &[("pool", pool), ("state", &state)]), 1.0, "{info}");
        for (of_virsh, name) in [("Autostart", "libvirt_pool_autostart"), ("Persistent", "libvirt_pool_persistent")] {
            assert_eq!(shown.value(name, &of) == 1.0, told(&info, of_virsh) == "yes", "{info}");
        }
        for (of_virsh, name) in [
            ("Capacity", "libvirt_pool_capacity_bytes"),
            ("Allocation", "libvirt_pool_allocation_bytes"),
            ("Available", "libvirt_pool_available_bytes"),
        ] {
            let is = (state == "running").then(|| told(&info, of_virsh).parse::<f64>().unwrap());
            assert_eq!(shown.get(name, &of), is, "{name}: {info}");
        }
        let path = lab.folder().join(pool);
        let labels = [("pool", pool), ("pool_type", "dir"), ("path", path.to_str().unwrap())];
        assert_eq!(shown.value("libvirt_pool_info", &labels), 1.0);
    }

    let info = lab.virsh(&["net-info", "quiet"]).unwrap();
    let of = [("network", "quiet")];
    for (of_virsh, name) in [
        ("Active", "libvirt_network_active"),
        ("Autostart", "libvirt_network_autostart"),
        ("Persistent", "libvirt_network_persistent"),
    ] {
        assert_eq!(shown.value(name, &of) == 1.0, told(&info, of_virsh) == "yes", "{info}");
    }
    let labels = [("network", "quiet"), ("bridge", &bridge), ("forward_mode", "none")];
    assert_eq!(shown.value("libvirt_network_info", &labels), 1.0);
    let leases = (told(&info, "Active") == "yes").then(|| {
        let leases = lab.virsh(&["net-dhcp-leases", "quiet"]).unwrap();
        leases.lines().filter(|line| line.contains("ipv")).count()
    });
    assert_eq!(
        shown.get("libvirt_network_dhcp_leases", &of).map(|value| value.to_string()),
        leases.map(|n| n.to_string())
    );
    for probe in ["host", "pool", "network"] {
        assert_eq!(shown.value("libvirt_exporter_probe_success", &[("probe", probe)]), 1.0, "{probe}");
    }
}

/// Runs a program of iproute2 and the like.
fn run(words: &str) -> Result<String, String> {
    let mut words = words.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(if done.status.success() { &done.stdout } else { &done.stderr }).into_owned();
    if done.status.success() { Ok(text) } else { Err(text) }
}

/// A network namespace with one end of a pair of devices in it, the other end on a bridge.
struct Client(String);

impl Client {
    fn on(bridge: &str, mac: &str) -> Result<Self, String> {
        let client = Self(format!("lab-{}", std::process::id()));
        let name = &client.0;
        let (outer, inner) = (format!("o{}", std::process::id()), format!("i{}", std::process::id()));
        run(&format!("ip netns add {name}"))?;
        run(&format!("ip link add {outer} type veth peer name {inner} address {mac} netns {name}"))?;
        run(&format!("ip link set {outer} master {bridge} up"))?;
        run(&format!("ip -n {name} link set {inner} up"))?;
        Ok(client)
    }

    /// Asks for a lease until there is one.
    fn lease(&self) -> String {
        let began = Instant::now();
        loop {
            let device = format!("i{}", std::process::id());
            let asked = run(&format!("ip netns exec {} udhcpc -i {device} -n -q -f -t 2 -s /bin/true", self.0));
            match asked {
                Ok(said) => return said,
                Err(said) => assert!(began.elapsed() < SOON, "{said}"),
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Its end of the pair goes with it, and the other end with that one.
        let _gone = run(&format!("ip netns del {}", self.0));
    }
}

/// Leases, the addresses of guests, and what happens to networks and pools.
fn follow_leases(lab: &Lab) {
    let bridge = format!("labbr{}", std::process::id());
    // A range for documentation; no machine has it.
    let dhcp = "<dhcp><range start='198.51.100.10' end='198.51.100.20'/></dhcp>";
    let address = format!("<ip address='198.51.100.1' netmask='255.255.255.0'>{dhcp}</ip>");
    let xml = lab.folder().join("leased.xml");
    fs::write(&xml, format!("<network><name>leased</name><bridge name='{bridge}'/>{address}</network>")).unwrap();
    lab.virsh(&["net-define", xml.to_str().unwrap()]).unwrap();
    for (program, package) in [("dnsmasq", "dnsmasq-base"), ("udhcpc", "udhcpc"), ("ip", "iproute2")] {
        need(program, package).unwrap();
    }
    let Some(network) = Network::start(lab, "leased") else {
        eprintln!("SKIPPED: this machine lets no network be started");
        return;
    };
    let guest = lab.guests(&["mover"]).unwrap().remove(0);
    let mac = "52:54:00:00:5e:01";
    let nic = ["attach-interface", &guest, "network", "leased", "--mac", mac, "--model", "virtio", "--live"];
    lab.virsh(&nic).unwrap();
    let groups = ["--collection.groups", "state,interface,network,address,pool"];
    let exporter = Exporter::serve(&lab.uri_ro, &groups).unwrap();
    let leases = |shown: &Shown| shown.get("libvirt_network_dhcp_leases", &[("network", "leased")]);
    let until = |what: &str, good: &dyn Fn(&Shown) -> bool| {
        let began = Instant::now();
        loop {
            let shown = Shown(parse_exposition(&exporter.metrics("text/plain").unwrap()).unwrap());
            if good(&shown) {
                return shown;
            }
            assert!(began.elapsed() < SOON, "{what}: {shown:#?}");
            thread::sleep(Duration::from_millis(500));
        }
    };
    until("none yet", &|shown| leases(shown) == Some(0.0));
    // The guest has no software that asks; another one with its MAC address does.
    let client = match Client::on(&bridge, mac) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("SKIPPED: this machine lets no network namespace be made: {error}");
            return;
        }
    };
    println!("{}", client.lease());
    let shown = until("the lease", &|shown| {
        leases(shown) == Some(1.0) && shown.get("libvirt_domain_interface_address_info", &[]).is_some()
    });
    let listed = lab.virsh(&["net-dhcp-leases", "leased"]).unwrap();
    let told = lab.virsh(&["domifaddr", &guest, "--source", "lease"]).unwrap();
    println!("{listed}\n{told}");
    assert_eq!(listed.lines().filter(|line| line.contains(mac)).count(), 1, "{listed}");
    let words: Vec<&str> = told.split_whitespace().collect();
    let [device, told_mac, "ipv4", address] = words[..] else { panic!("{told}") };
    let address = address.split('/').next().unwrap();
    assert!(listed.contains(address) && told_mac == mac, "{listed}");
    let labels = [("interface", device), ("mac", mac), ("address", address), ("address_source", "lease")];
    assert_eq!(shown.value("libvirt_domain_interface_address_info", &labels), 1.0);
    let info = [("interface", device), ("mac", mac), ("network", "leased")];
    assert_eq!(shown.value("libvirt_domain_interface_info", &info), 1.0, "both have the same labels");
    drop(client);
    drop(network);
    until("it is stopped", &|shown| shown.get("libvirt_network_active", &[("network", "leased")]) == Some(0.0));
    lab.virsh(&["pool-refresh", "images"]).unwrap();
    lab.virsh(&["pool-destroy", "images"]).unwrap();
    lab.virsh(&["pool-undefine", "spare"]).unwrap();
    let (pools, networks) = ("libvirt_host_pool_events_total", "libvirt_host_network_events_total");
    let told = [(pools, "refreshed"), (pools, "stopped"), (pools, "undefined"), (networks, "stopped")];
    let shown = until("all events are counted", &|shown| {
        told.iter().all(|(name, event)| shown.get(name, &[("event", event)]) == Some(1.0))
    });
    assert_eq!(shown.0.iter().filter(|sample| sample.name == pools || sample.name == networks).count(), told.len());
}
