//! The XML definition of a domain, made from its template and flags.

use std::fmt::Write as _;

use crate::domain::{Domain, Interface, Metadata, Source};
use crate::template::{Template, disk_path, disk_target, fnv};

const NOVA: &str = "http://openstack.org/xmlns/libvirt/nova/1.1";
const LIBOSINFO: &str = "http://libosinfo.org/xmlns/libvirt/domain/1.0";

/// The definition, as `virDomainGetXMLDesc` returns it.
pub(crate) fn xml(domain: &Domain) -> String {
    if let Some(xml) = &domain.xml {
        return xml.clone();
    }
    let fallback = Template::small();
    let template = domain.template().unwrap_or(&fallback);
    let kind = if template.kvm_vcpu_stats > 0 { "kvm" } else { "qemu" };
    let mut out = match domain.id.filter(|_| domain.is_active()) {
        Some(id) => format!("<domain type='{kind}' id='{id}'>\n"),
        None => format!("<domain type='{kind}'>\n"),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "  <name>{}</name>", escape(&domain.name));
    let _ = writeln!(out, "  <uuid>{}</uuid>", domain.uuid);
    for (tag, text) in [("title", &domain.title), ("description", &domain.description)] {
        if let Some(text) = text {
            let _ = writeln!(out, "  <{tag}>{}</{tag}>", escape(text));
        }
    }
    let metadata = metadata(domain);
    if !metadata.is_empty() {
        out.push_str("  <metadata>\n");
        for element in metadata {
            let _ = writeln!(out, "    {}", element.xml);
        }
        out.push_str("  </metadata>\n");
    }
    let _ = writeln!(out, "  <memory unit='KiB'>{}</memory>", template.memory_kib);
    let _ = writeln!(out, "  <currentMemory unit='KiB'>{}</currentMemory>", template.memory_kib);
    let _ = writeln!(out, "  <vcpu placement='static'>{}</vcpu>", template.vcpus);
    if template.iothreads > 0 {
        let _ = writeln!(out, "  <iothreads>{}</iothreads>", template.iothreads);
    }
    out.push_str("  <os>\n    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n    <boot dev='hd'/>\n  </os>\n");
    out.push_str(
        "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>\n  <on_crash>destroy</on_crash>\n",
    );
    out.push_str("  <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n");
    if domain.template().is_some() {
        devices(domain, template, &mut out);
    }
    out.push_str("  </devices>\n</domain>\n");
    out
}

/// The metadata elements: those of the domain, then those its template asks for.
pub(crate) fn metadata(domain: &Domain) -> Vec<Metadata> {
    let mut all = domain.metadata.clone();
    let Source::Template(template) = &domain.source else {
        return all;
    };
    if template.nova {
        all.push(nova(domain, template));
    }
    if let Some(os) = &template.osinfo {
        all.push(Metadata {
            uri: LIBOSINFO.to_owned(),
            xml: format!(
                "<libosinfo:libosinfo xmlns:libosinfo=\"{LIBOSINFO}\"><libosinfo:os id=\"{}\"/></libosinfo:libosinfo>",
                escape(os)
            ),
        });
    }
    all
}

fn nova(domain: &Domain, template: &Template) -> Metadata {
    let tenant = fnv(domain.name.as_bytes()) % 10;
    Metadata {
        uri: NOVA.to_owned(),
        xml: format!(
            "<nova:instance xmlns:nova=\"{NOVA}\">\
             <nova:package version=\"26.1.0\"/><nova:name>{name}</nova:name>\
             <nova:creationTime>2026-01-01 00:00:00</nova:creationTime>\
             <nova:flavor name=\"m1.v{vcpus}\"><nova:memory>{memory}</nova:memory><nova:disk>20</nova:disk>\
             <nova:swap>0</nova:swap><nova:ephemeral>0</nova:ephemeral><nova:vcpus>{vcpus}</nova:vcpus></nova:flavor>\
             <nova:owner><nova:user uuid=\"{tenant:032x}\">user-{tenant}</nova:user>\
             <nova:project uuid=\"{project:032x}\">project-{tenant}</nova:project></nova:owner>\
             <nova:root type=\"image\" uuid=\"6f0128de-0000-4000-8000-00000000000{tenant}\"/></nova:instance>",
            name = escape(&domain.name),
            vcpus = template.vcpus,
            memory = template.memory_kib / 1024,
            project = tenant + 1000,
        ),
    }
}

fn devices(domain: &Domain, template: &Template, out: &mut String) {
    for disk in 0..template.disks {
        let target = disk_target(disk);
        let first = 1 + disk * (1 + template.backing_layers);
        let path = |layer| escape(&disk_path(&domain.name, &target, layer));
        let index = |layer: u32| {
            if domain.is_active() { format!(" index='{}'", first + layer) } else { String::new() }
        };
        let mut chain = "<backingStore/>".to_owned();
        for layer in (1..=template.backing_layers).rev() {
            chain = format!(
                "<backingStore type='file'{}><format type='qcow2'/><source file='{}'/>{chain}</backingStore>",
                index(layer),
                path(layer)
            );
        }
        let _ = writeln!(
            out,
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2' cache='none' io='native'/>\n      \
             <source file='{}'{}/>\n      {chain}\n      <target dev='{target}' bus='virtio'/>\n      \
             <serial>{}-{target}</serial>\n      <alias name='virtio-disk{disk}'/>\n    </disk>",
            path(0),
            index(0),
            escape(&domain.name),
        );
    }
    for nic in 0..template.nics_without_tap {
        let _ = writeln!(
            out,
            "    <interface type='user'>\n      <mac address='{}'/>\n      <model type='virtio'/>\n      \
             <alias name='net{nic}'/>\n    </interface>",
            mac(domain, nic)
        );
    }
    for nic in 0..template.nics {
        let index = nic + template.nics_without_tap;
        let tap = if domain.is_active() {
            format!("\n      <target dev='vnet{}'/>", domain.first_tap + nic)
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "    <interface type='bridge'>\n      <mac address='{}'/>\n      <source bridge='br0'/>{tap}\n      \
             <model type='virtio'/>\n      <mtu size='1500'/>\n      <alias name='net{index}'/>\n    </interface>",
            mac(domain, index)
        );
    }
    if template.agent {
        let state = if domain.is_active() { " state='connected'" } else { "" };
        let _ = writeln!(
            out,
            "    <channel type='unix'>\n      <target type='virtio' name='org.qemu.guest_agent.0'{state}/>\n      \
             <alias name='channel0'/>\n    </channel>"
        );
    }
}

fn mac(domain: &Domain, nic: u32) -> String {
    let hash = fnv(domain.uuid.as_bytes()).wrapping_add(u64::from(nic)).to_be_bytes();
    format!("52:54:00:{:02x}:{:02x}:{:02x}", hash[5], hash[6], hash[7])
}

/// The interfaces with addresses, as DHCP leases and the ARP table would know them.
pub(crate) fn interfaces(domain: &Domain) -> Vec<Interface> {
    if let Some(interfaces) = &domain.interfaces {
        return interfaces.clone();
    }
    let Some(template) = domain.template() else {
        return Vec::new();
    };
    (0..template.nics)
        .map(|nic| {
            let tap = domain.first_tap + nic;
            Interface {
                name: format!("vnet{tap}"),
                hwaddr: mac(domain, nic + template.nics_without_tap),
                addresses: vec![(format!("10.{}.{}.{}", tap >> 16 & 0xff, tap >> 8 & 0xff, tap & 0xff), 8)],
            }
        })
        .collect()
}

/// Text as it is written in an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::xml;
    use crate::domain::{Domain, DomainState};
    use crate::template::Template;

    #[test]
    fn the_definition_shows_what_the_template_has() {
        let domain = Domain::new("a<b", Template::everything()).with_id(4);
        let text = xml(&domain);
        assert!(text.starts_with("<domain type='kvm' id='4'>\n  <name>a&lt;b</name>"));
        for part in [
            "<nova:flavor name=\"m1.v2\">",
            "<libosinfo:os id=\"http://debian.org/debian/12\"/>",
            "<target dev='vdb' bus='virtio'/>",
            "<backingStore type='file' index='3'>",
            "<target dev='vnet1'/>",
            "org.qemu.guest_agent.0' state='connected'",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let off = xml(&domain.with_state(DomainState::Shutoff));
        assert!(off.starts_with("<domain type='kvm'>\n") && !off.contains("vnet"));
    }
}
