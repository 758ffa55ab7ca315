mod refusals;

use super::*;

const WEB: &str = include_str!("../../../tests/fixtures/definitions/web.xml");
const NOVA: &str = include_str!("../../../tests/fixtures/definitions/nova.xml");

fn parse(xml: &str) -> Metadata {
    parse_definition(xml, &MetadataLabels::new()).unwrap_or_else(|error| panic!("{error}: {xml}"))
}

fn with_device(xml: &str) -> Metadata {
    parse(&format!("<domain><devices>{xml}</devices></domain>"))
}

fn with_metadata(xml: &str) -> Metadata {
    parse(&format!("<domain><name>shop_web-1</name><metadata>{xml}</metadata></domain>"))
}

fn labels(metadata: &Metadata) -> Vec<(&str, &str)> {
    metadata.labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect()
}

fn configured(pairs: &[(&str, &str)]) -> MetadataLabels {
    let parse = |(label, path): &(&str, &str)| (label.parse().expect("a label"), path.parse().expect("a path"));
    pairs.iter().map(parse).collect()
}

#[test]
fn a_running_domain_is_read() {
    let web = parse(WEB);
    assert_eq!((web.title.as_str(), web.os_type.as_str()), ("Shop front & \"cache\"", "hvm"));
    assert_eq!(web.description, "Serves the shop.\n    Ask the web team.");
    assert_eq!((web.arch.as_str(), web.machine.as_str()), ("x86_64", "pc-q35-10.0"));
    assert_eq!(web.os, "http://debian.org/debian/13");
    assert_eq!(web.emulator, "/usr/bin/qemu-system-x86_64");
    assert_eq!((web.memory_bytes, web.vcpus), (Some(4 << 30), Some(4)));
    assert_eq!(web.agent, Some(Agent { connected: Some(true) }));
    assert!(web.labels.is_empty());
    assert_eq!(web.allowance, Allowance::default());
    let disks: Vec<_> = web.disks.iter().map(|disk| (disk.device.as_str(), disk.source.as_str())).collect();
    assert_eq!(disks, [("vda", "/var/lib/libvirt/images/web.qcow2"), ("vdb", "rbd:vms/web-data"), ("sda", "")]);
    let first = Disk {
        device: "vda".into(),
        bus: "virtio".into(),
        kind: "disk".into(),
        source_type: "file".into(),
        source: "/var/lib/libvirt/images/web.qcow2".into(),
        driver: "qemu".into(),
        driver_type: "qcow2".into(),
        cache: "none".into(),
        discard: String::new(),
        serial: "WEB0001".into(),
        alias: "virtio-disk0".into(),
        readonly: false,
        chain: Some(vec![2, 3]),
        throttles: Limits::default(),
        throttle_group: String::new(),
    };
    assert_eq!(web.disks[0], first);
    assert!(web.disks[2].readonly && web.disks[2].kind == "cdrom");
    let first = Interface {
        device: "vnet3".into(),
        mac: "52:54:00:ab:cd:01".into(),
        model: "virtio".into(),
        kind: "network".into(),
        source: String::new(),
        bridge: "virbr0".into(),
        network: "default".into(),
        portgroup: "front".into(),
        mtu: Some(9000),
        alias: "net0".into(),
        ovs_port_id: String::new(),
        is_lasting: false,
        link_up: true,
        filter: String::new(),
        bandwidth: Limits::default(),
    };
    assert_eq!(web.interfaces[0], first);
    assert_eq!(web.interfaces[1].ovs_port_id, "5d1b2bd0-7c7d-4f8e-9d0c-000000000002");
    assert_eq!(web.interfaces[2].source, "0000:03:10.1");
    assert_eq!(web.interfaces.len(), 3);
    let expected = [
        ScrapeTarget { port: 9100, ..ScrapeTarget::default() },
        ScrapeTarget { port: 8443, path: "/stats".into(), scheme: "https".into(), job: "nginx".into() },
    ];
    assert_eq!(web.scrape, expected);
}

#[test]
fn what_a_definition_does_not_say_is_empty() {
    assert_eq!(parse("<domain/>"), Metadata::default());
    assert_eq!(parse("<?xml version='1.0'?>\n<!-- <a> --><domain><devices/><metadata/></domain>"), Metadata::default());
    assert_eq!(parse(NOVA).agent, Some(Agent { connected: None }));
    let odd = parse("<domain><memory>much</memory><vcpu>-1</vcpu><os/><title> </title></domain>");
    assert_eq!(odd, Metadata::default());
}

#[test]
fn each_type_of_source_has_its_words() {
    let cases = [
        ("file", "<source file='/a b.img' startupPolicy='optional'/>", "/a b.img"),
        ("block", "<source dev='/dev/sdb'/>", "/dev/sdb"),
        ("dir", "<source dir='/srv/fat'/>", "/srv/fat"),
        ("network", "<source protocol='rbd' name='pool/image'><host name='h'/></source>", "rbd:pool/image"),
        (
            "network",
            "<source protocol='iscsi' name='iqn.2026-01.org.example:t/1'/>",
            "iscsi:iqn.2026-01.org.example:t/1",
        ),
        ("network", "<source protocol='nbd'><host name='h' port='10809'/></source>", "nbd:h:10809"),
        ("network", "<source protocol='nbd'><host transport='unix' socket='/run/s'/></source>", "nbd:/run/s"),
        ("network", "<source protocol='gluster'/>", "gluster"),
        ("volume", "<source pool='p' volume='v' mode='host'/>", "p/v"),
        (
            "nvme",
            "<source type='pci' managed='yes' namespace='1'><address domain='0x0001' bus='0x0a' slot='0x1f' function='0x7'/></source>",
            "nvme:0001:0a:1f.7/1",
        ),
        ("nvme", "<source namespace='1'><address bus='zz'/></source>", "nvme:1"),
        ("vhostuser", "<source type='unix' path='/run/blk.sock'/>", "vhostuser:/run/blk.sock"),
        ("vhostvdpa", "<source dev='/dev/vhost-vdpa-0'/>", "vhostvdpa:/dev/vhost-vdpa-0"),
        ("tape", "<source file='/a'/>", ""),
        ("file", "", ""),
    ];
    for (source_type, source, expected) in cases {
        let disk = format!("<disk type='{source_type}'>{source}<target dev='vda' bus='scsi'/></disk>");
        let disks = with_device(&disk).disks;
        let found: Vec<_> = disks.iter().map(|disk| (&*disk.source_type, &*disk.source, &*disk.bus)).collect();
        assert_eq!(found, [(source_type, expected, "scsi")], "{disk}");
    }
}

#[test]
fn a_disk_needs_a_target_of_its_own() {
    let metadata = with_device("<disk><source file='/a'/></disk><disk><target/></disk>");
    assert_eq!(metadata.disks, []);
    let disk = |file: &str| format!("<disk type='file'><source file='{file}'/><target dev='vda'/></disk>");
    let metadata = with_device(&(disk("/a") + &disk("/b")));
    assert_eq!(metadata.disks.iter().map(|disk| &*disk.source).collect::<Vec<_>>(), ["/a"]);
}

#[test]
fn the_chain_of_a_disk_is_known_to_its_end() {
    let chain = |sources: &str| {
        with_device(&format!("<disk type='file'>{sources}<target dev='vda'/></disk>")).disks[0].chain.clone()
    };
    let two = "<source file='/top' index='4'/><backingStore type='file' index='3'><format type='qcow2'/>\
               <source file='/middle'/><backingStore type='block' index='1'><source dev='/base'/>\
               <backingStore/></backingStore></backingStore>\
               <mirror type='file' job='copy'><source file='/copy' index='10'/><backingStore/></mirror>";
    assert_eq!(chain(two), Some(vec![4, 3, 1]));
    assert_eq!(chain("<source file='/a' index='1'/><backingStore/>"), Some(vec![1]));
    for unknown in [
        "",
        "<source file='/of/a/shut/off/domain'/>",
        "<source file='/a'/><backingStore/>",
        "<source file='/a' index='1'/>",
        "<source file='/a' index='1'/><backingStore type='file'><source file='/b'/><backingStore/></backingStore>",
        "<source file='/a' index='1'/><backingStore type='file' index='2'><source file='/b'/></backingStore>",
    ] {
        assert_eq!(chain(unknown), None, "{unknown}");
    }
}

#[test]
fn a_device_of_the_host_outlasts_the_domain() {
    let lasting = |xml: &str| with_device(xml).interfaces[0].is_lasting;
    assert!(lasting("<interface type='vhostuser'><source type='unix' path='/vhu1' mode='server'/></interface>"));
    assert!(lasting("<interface type='ethernet'><target dev='tap0' managed='no'/></interface>"));
    assert!(!lasting("<interface type='ethernet'><target dev='tap0'/></interface>"));
    assert!(!lasting("<interface type='bridge'><source bridge='br0'/><target dev='vnet0'/></interface>"));
}

#[test]
fn each_type_of_interface_has_its_words() {
    let with = |interface: &str| {
        let [interface] = <[Interface; 1]>::try_from(with_device(interface).interfaces).expect("one");
        interface
    };
    let direct = with(
        "<interface type='direct'><mac address='AA:bb:0C:00:00:01'/><source dev='eth0' mode='bridge'/>\
         <target dev='macvtap0'/></interface>",
    );
    assert_eq!((&*direct.kind, &*direct.source, &*direct.device), ("direct", "eth0", "macvtap0"));
    assert_eq!(direct.mac, "aa:bb:0c:00:00:01");
    let network = with("<interface type='network'><source network='ovs' portgroup='vlan-7'/></interface>");
    assert_eq!((&*network.network, &*network.portgroup, &*network.bridge), ("ovs", "vlan-7", ""));
    let vdpa = with("<interface type='vdpa'><source dev='/dev/vhost-vdpa-1'/></interface>");
    assert_eq!((&*vdpa.kind, &*vdpa.source), ("vdpa", "/dev/vhost-vdpa-1"));
    let user = with("<interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000'/></interface>");
    assert_eq!((&*user.kind, &*user.model, &*user.device), ("user", "e1000", ""));
    let vhostuser =
        with("<interface type='vhostuser'><source type='unix' path='/run/v.sock' mode='server'/></interface>");
    assert_eq!(vhostuser.source, "/run/v.sock");
    let hostdev =
        with("<interface type='hostdev'><source><address bus='0x03' slot='0x10' function='0x1'/></source></interface>");
    assert_eq!(hostdev.source, "0000:03:10.1");
    assert_eq!(with("<interface type='bridge'><mtu size='big'/></interface>").mtu, None);
    let twins = "<interface type='user'><mac address='a'/></interface>".repeat(2);
    assert_eq!(with_device(&twins).interfaces.len(), 1);
}

#[test]
fn an_agent_has_a_channel_of_its_name() {
    let agent = |state: &str| {
        let other = "<channel><target name='com.redhat.spice.0' state='connected'/></channel><channel/>";
        with_device(&format!("{other}<channel><target name='org.qemu.guest_agent.0' {state}/></channel>")).agent
    };
    assert_eq!(agent("state='connected'"), Some(Agent { connected: Some(true) }));
    assert_eq!(agent("state='disconnected'"), Some(Agent { connected: Some(false) }));
    assert_eq!(agent(""), Some(Agent { connected: None }));
    assert_eq!(with_device("<channel><target name='x'/></channel>").agent, None);
}

#[test]
fn memory_has_the_units_of_libvirt() {
    let cases = [
        ("", Some(7168)),
        ("KiB", Some(7168)),
        ("k", Some(7168)),
        ("b", Some(7)),
        ("bytes", Some(7)),
        ("KB", Some(7000)),
        ("MB", Some(7_000_000)),
        ("M", Some(7 << 20)),
        ("MiB", Some(7 << 20)),
        ("GiB", Some(7 << 30)),
        ("GB", Some(7_000_000_000)),
        ("T", Some(7 << 40)),
        ("PiB", Some(7 << 50)),
        ("EB", Some(7_000_000_000_000_000_000)),
        ("E", Some(7 << 60)),
        ("X", None),
        ("KiBs", None),
        ("é", None),
    ];
    for (unit, expected) in cases {
        let metadata = parse(&format!("<domain><memory unit='{unit}'> 7 </memory></domain>"));
        assert_eq!(metadata.memory_bytes, expected, "{unit}");
    }
    assert_eq!(parse("<domain><memory>2</memory></domain>").memory_bytes, Some(2048));
    assert_eq!(parse("<domain><memory unit='EiB'>16</memory></domain>").memory_bytes, None);
}

#[test]
fn nova_says_whose_an_instance_is() {
    let expected = [
        ("flavor", "m1.small"),
        ("image_id", "6c1e9d0a-0000-4000-8000-000000000002"),
        ("instance_name", "billing-1"),
        ("project_id", "0123456789abcdef0123456789abcdef"),
        ("project_name", "billing"),
        ("user_id", "a1b2c3d4e5f60718293a4b5c6d7e8f90"),
        ("user_name", "ann"),
    ];
    assert_eq!(labels(&parse(NOVA)), expected);
    assert_eq!(labels(&parse(&NOVA.replace("nova/1.1", "nova/1.0"))), expected);
    let other = NOVA.replace("http://openstack.org/xmlns/libvirt/nova/1.1", "http://openstack.org/nova/instance/1");
    assert_ne!(other, NOVA);
    assert_eq!(labels(&parse(&other)), expected);
    assert_eq!(labels(&parse(&NOVA.replace("nova:", "n:").replace("xmlns:nova", "xmlns:n"))), expected);
    assert_eq!(labels(&parse(&NOVA.replace("nova/1.1", "nova/2.0"))), []);
    let volume = parse(&NOVA.replace("type=\"image\"", "type=\"volume\""));
    assert!(!volume.labels.contains_key("image_id"));
}

#[test]
fn the_other_management_systems_have_their_labels() {
    let opennebula = "<one:vm xmlns:one='http://opennebula.org/xmlns/libvirt/1.0'>\
        <one:system_datastore>/var/lib/one/datastores/0/7</one:system_datastore><one:name>web &lt;1&gt;</one:name>\
        <one:uname>ann</one:uname><one:uid>2</one:uid><one:gname>users</one:gname><one:gid>1</one:gid></one:vm>";
    let expected = [
        ("group_id", "1"),
        ("group_name", "users"),
        ("instance_name", "web <1>"),
        ("user_id", "2"),
        ("user_name", "ann"),
    ];
    assert_eq!(labels(&with_metadata(opennebula)), expected);
    let ovirt = "<ovirt-tune:qos xmlns:ovirt-tune='http://ovirt.org/vm/tune/1.0'/>\
        <ovirt-vm:vm xmlns:ovirt-vm='http://ovirt.org/vm/1.0'><ovirt-vm:clusterVersion>4.8</ovirt-vm:clusterVersion></ovirt-vm:vm>";
    assert_eq!(labels(&with_metadata(ovirt)), [("ovirt_cluster_version", "4.8")]);
    let kubevirt = "<kubevirt xmlns='http://kubevirt.io'><uid>f4686d2c-6e8d-4335-b8fd-81bee22f4814</uid></kubevirt>";
    let expected = [
        ("kubevirt_name", "web-1"),
        ("kubevirt_namespace", "shop"),
        ("kubevirt_uid", "f4686d2c-6e8d-4335-b8fd-81bee22f4814"),
    ];
    assert_eq!(labels(&with_metadata(kubevirt)), expected);
    assert_eq!(labels(&with_metadata("<kubevirt><uid>1</uid></kubevirt><vm><name>a</name></vm>")), []);
}

#[test]
fn a_configured_label_is_the_first_value_at_its_path() {
    let paths = configured(&[
        ("owner", "metadata/shop:order/shop:line/shop:owner/@name"),
        ("order", "metadata/order/@number"),
        ("restart", "on_reboot"),
        ("hypervisor", "@type"),
        ("nothing", "metadata/order/line/@name"),
        ("nowhere", "a/b/c"),
    ]);
    let web = parse_definition(WEB, &paths).expect("a definition");
    let expected = [("hypervisor", "kvm"), ("order", "4711"), ("owner", "web team"), ("restart", "restart")];
    assert_eq!(labels(&web), expected);
}

#[test]
fn a_scrape_element_needs_a_port() {
    let scrape = |attributes: &str| {
        with_metadata(&format!("<scrape xmlns='urn:domstats-exporter:scrape:1' {attributes}/>")).scrape
    };
    assert_eq!(scrape("port='9100'"), [ScrapeTarget { port: 9100, ..ScrapeTarget::default() }]);
    assert_eq!(scrape("port='1' scheme='HTTPS'")[0].scheme, "https");
    for bad in ["", "port=''", "port='0'", "port='65536'", "port='x'", "port='1' path='a'", "port='1' scheme='ftp'"] {
        assert_eq!(scrape(bad), [], "{bad}");
    }
    let twice = "<d:t xmlns:d='urn:domstats-exporter:scrape:1'><d:scrape port='1'/><d:scrape port='1'/><x><d:scrape port='2'/></x></d:t>";
    assert_eq!(with_metadata(twice).scrape.iter().map(|target| target.port).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(with_metadata("<scrape port='9100'/>").scrape, []);
    let many: String = (1..1000).map(|port| format!("<scrape port='{port}'/>")).collect();
    let many = with_metadata(&format!("<t xmlns='urn:domstats-exporter:scrape:1'>{many}</t>"));
    assert_eq!(many.scrape.len(), 64);
}
