//! Libvirt / OpenStack and Libvirt / KubeVirt: guests by whom they belong to, from the recording rules.

use serde_json::Value;

use super::guests::{info, jobs, states};
use super::numbers::{Source, steal};
use super::problems::{Scope, counts, list_of_guests, of_guests};
use super::{STATES, domain_link, host_link};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, Variable, number, orange_from, plain, rising, table, timeseries,
};
use crate::thresholds as limit;

/// A platform whose metadata are in the domains' definitions.
struct Platform {
    uid: &'static str,
    title: &'static str,
    about: &'static str,
    /// Who guests belong to: a heading, its plural, the variable, and the label of `libvirt_domain_info`.
    owner: Owner,
    /// The label with a guest's name.
    name: &'static str,
    /// Whether guests have flavors.
    flavors: bool,
    /// The title of the first row.
    heading: &'static str,
    /// The title of the table of whose guests have troubles.
    troubled: &'static str,
}

struct Owner {
    one: &'static str,
    many: &'static str,
    variable: &'static str,
    label: &'static str,
}

pub(super) fn openstack() -> Value {
    Platform {
        uid: "libvirt-openstack",
        title: "Libvirt / OpenStack",
        about: "The projects of OpenStack: what their instances use, which of them suffer, and whether flavors fit.",
        owner: Owner { one: "Project", many: "Projects", variable: "project", label: "project_name" },
        name: "instance_name",
        flavors: true,
        heading: "What is wrong now with instances of OpenStack, by averages of five minutes",
        troubled: "Troubles by project",
    }
    .dashboard()
}

pub(super) fn kubevirt() -> Value {
    Platform {
        uid: "libvirt-kubevirt",
        title: "Libvirt / KubeVirt",
        about: "The namespaces of KubeVirt: what their virtual machines use, and which of them suffer.",
        owner: Owner { one: "Namespace", many: "Namespaces", variable: "namespace", label: "kubevirt_namespace" },
        name: "kubevirt_name",
        flavors: false,
        heading: "What is wrong now with virtual machines of KubeVirt, by averages of five minutes",
        troubled: "Troubles by namespace",
    }
    .dashboard()
}

impl Platform {
    fn dashboard(&self) -> Value {
        let about = format!("{} Needs the recording rules of alerts/rules.yaml.", self.about);
        let mut dashboard = Dashboard::new(self.uid, self.title, &about).hosts(false).variable(Variable {
            name: self.owner.variable,
            label: self.owner.label,
            of: "libvirt_domain_info{%host}",
            one: false,
        });
        if self.flavors {
            let of = "libvirt_domain_info{%host,project_name=~\"$project\"}";
            dashboard = dashboard.variable(Variable { name: "flavor", label: "flavor", of, one: false });
        }
        dashboard = dashboard
            .top()
            .row(Row::open(self.heading, self.troubles()))
            .row(Row::open(self.owner.many, self.use_now().into_iter().chain([self.owners()]).collect()))
            .row(Row::open("Guests", vec![self.guests()]))
            .row(Row::open("Over time", self.over_time()));
        if self.flavors {
            dashboard = dashboard.row(Row::open("Flavors", vec![self.by_flavor()]));
        }
        dashboard.build()
    }

    /// The info of the chosen guests, each once.
    fn info(&self) -> String {
        info(&self.chosen_info())
    }

    /// A number of the chosen guests, with these labels of theirs.
    fn labelled(&self, number: &str, labels: &str) -> String {
        format!("{number} * on (instance, domain) group_left ({labels}) {}", self.info())
    }

    /// A number of the chosen guests, added up or otherwise made one for each value of a label.
    fn by(&self, operator: &str, label: &str, number: &str) -> String {
        format!("{operator} by ({label}) ({})", self.labelled(number, label))
    }

    fn chosen(&self, operator: &str, number: &str) -> String {
        format!("{operator}({})", self.labelled(number, self.owner.label))
    }

    /// The matchers of the info of the chosen guests.
    fn chosen_info(&self) -> String {
        let flavor = if self.flavors { ",flavor=~\"$flavor\"" } else { "" };
        format!("%host,{}=~\"${}\"{flavor}", self.owner.label, self.owner.variable)
    }

    /// The troubles of the chosen guests: how many have each, whose they are, and which guests it are.
    fn troubles(&self) -> Vec<Panel> {
        let scope = Scope { selector: "%host", source: Source::Rules, chosen: Some(self.chosen_info()) };
        let (label, problems) = (self.owner.label, of_guests(&scope));
        let of_jobs = self.labelled("(libvirt_domain_job_running{%host} == 1)", label);
        let mut panels = counts(&problems, 4);
        let mut columns = vec![Column::label(self.owner.one, label)];
        columns.extend(problems.iter().map(|problem| problem.count_by(label, &self.info())));
        columns.push(Column::query("Jobs", &format!("count by ({label}) ({of_jobs})"), Unit::Count).colored(plain()));
        let about = "How many guests of each have a trouble that is counted above, or migrate or have another job.";
        let whose = table(self.troubled, about, columns, (self.owner.one, false)).nothing("no guest has any trouble");
        panels.push(whose.size(24, 6));
        panels.push(list_of_guests(&problems, &scope));
        panels.push(jobs(&scope));
        panels
    }

    fn use_now(&self) -> Vec<Panel> {
        vec![
            number(self.owner.many, "How many have a guest that is chosen above.", Unit::Count)
                .query(&format!("count(count by ({}) ({}))", self.owner.label, self.info()), "count")
                .thresholds(plain()),
            number("Guests running", "Chosen guests in the state running.", Unit::Count)
                .query(&self.chosen("sum", "libvirt_domain_state{%host,state=\"running\"}"), "guests")
                .thresholds(plain()),
            number("vCPUs", "vCPUs of the chosen guests.", Unit::Short)
                .query(&self.chosen("sum", "libvirt_domain_vcpus_current{%host}"), "vCPUs")
                .thresholds(plain()),
            number("CPUs busy", "CPUs of the hosts that the chosen guests keep busy.", Unit::Short)
                .query(&self.chosen("sum", CPU), "CPUs")
                .thresholds(plain()),
            number("Memory allocated", "Memory of the chosen guests.", Unit::Bytes)
                .query(&self.chosen("sum", "libvirt_domain_memory_current_bytes{%host}"), "memory")
                .thresholds(plain()),
            number("Memory resident", "Memory of the hosts that the QEMUs of the chosen guests hold.", Unit::Bytes)
                .query(&self.chosen("sum", "libvirt_domain_memory_rss_bytes{%host}"), "memory")
                .thresholds(plain()),
        ]
        .into_iter()
        .map(|panel| panel.size(4, 3))
        .collect()
    }

    fn owners(&self) -> Panel {
        let label = self.owner.label;
        let sum = |number: &str| self.by("sum", label, number);
        let max = |number: &str| self.by("max", label, number);
        let columns = vec![
            Column::label(self.owner.one, label),
            Column::query("Running", &sum("libvirt_domain_state{%host,state=\"running\"}"), Unit::Count).width(80),
            Column::query("vCPUs", &sum("libvirt_domain_vcpus_current{%host}"), Unit::Short).width(80),
            Column::query("CPUs busy", &sum(CPU), Unit::Short).bar(None, plain()),
            Column::query("Worst guest's steal", &max(&steal("%host")), Unit::Ratio).colored(rising(limit::STEAL)),
            Column::query("Memory allocated", &sum("libvirt_domain_memory_current_bytes{%host}"), Unit::Bytes)
                .bar(None, plain()),
            Column::query("Disk requests", &sum("domain:libvirt_domain_block_requests:rate5m{%host}"), Unit::Iops),
            Column::query("Worst latency", &max(LATENCY), Unit::Seconds).colored(rising(limit::BLOCK_LATENCY)),
            Column::query("Network", &sum("domain:libvirt_domain_interface_bytes:rate5m{%host}"), Unit::BytesPerSecond),
        ];
        let about = "What the guests of each use together, and the worst of what one of them suffers.";
        table(self.owner.many, about, columns, ("CPUs busy", true)).size(24, 7)
    }

    fn guests(&self) -> Panel {
        let (owner, name) = (&self.owner, self.name);
        let labels =
            if self.flavors { format!("{}, {name}, flavor", owner.label) } else { format!("{}, {name}", owner.label) };
        let rows = format!(
            "sum by (instance, domain, state, {labels}) ({})",
            self.labelled(&format!("({})", states("%host")), &labels)
        );
        let each = |number: &str| format!("sum by (instance, domain) ({})", self.labelled(number, owner.label));
        let mut columns = vec![
            Column::label("Name", name),
            Column::label(owner.one, owner.label),
            Column::label("Guest", "domain")
                .width(150)
                .link("Libvirt / Domain", &domain_link("${__data.fields.instance}", "${__data.fields.domain}")),
            Column::host().link("Libvirt / Host", &host_link("${__data.fields.instance}")),
            Column::label("State", "state").words(&STATES).width(115),
            Column::query("", &rows, Unit::Count),
            Column::query("vCPUs", &each("libvirt_domain_vcpus_current{%host}"), Unit::Count).width(70),
            Column::query("CPU", &each(CPU_SHARE), Unit::Ratio).bar(Some(1.0), rising(limit::CPU)),
            Column::query("Steal", &each(&steal("%host")), Unit::Ratio).colored(rising(limit::STEAL)).width(80),
            Column::query("Memory", &each("libvirt_domain_memory_current_bytes{%host}"), Unit::Bytes).width(90),
            Column::query("Memory used", &each("(1 - domain:libvirt_domain_memory_usable:ratio{%host})"), Unit::Ratio)
                .bar(Some(1.0), rising(limit::MEMORY_USABLE.of_the_rest())),
            Column::query("Disk requests", &each("domain:libvirt_domain_block_requests:rate5m{%host}"), Unit::Iops)
                .width(110),
            Column::query("Latency", &each(LATENCY), Unit::Seconds).colored(rising(limit::BLOCK_LATENCY)).width(90),
            Column::query(
                "Network",
                &each("domain:libvirt_domain_interface_bytes:rate5m{%host}"),
                Unit::BytesPerSecond,
            )
            .width(100),
        ];
        if self.flavors {
            columns.insert(2, Column::label("Flavor", "flavor"));
        }
        let about = "One row a guest; its name in libvirt leads to its dashboard. CPU is how many CPUs it keeps busy for each of its vCPUs, steal the \
            share of their time in which they wait for one; guests at their CPU quota have none here.";
        table("Guests", about, columns, ("CPU", true)).size(24, 10)
    }

    fn over_time(&self) -> Vec<Panel> {
        let most = |title, about: &str, unit, number: &str, whole: &str| {
            let label = self.owner.label;
            let [now, whole] = [number, whole].map(|number| self.by("sum", label, number));
            timeseries(title, about, unit)
                .query(&format!("{now} and on ({label}) topk(%top, {whole})"), &format!("{{{{{label}}}}}"))
                .query(&format!("sum({now} unless on ({label}) topk(%top, {whole}))"), "others")
                .stacked()
                .many()
                .size(12, 8)
        };
        let whole = |record: &str| format!("avg_over_time({record}[%range] @ end())");
        let (requests, network) = (
            "domain:libvirt_domain_block_requests:rate5m{%host}",
            "domain:libvirt_domain_interface_bytes:rate5m{%host}",
        );
        let memory = "libvirt_domain_memory_rss_bytes{%host}";
        vec![
            most("CPUs busy", "CPUs that the guests of each keep busy.", Unit::Short, CPU, &whole(CPU)),
            most(
                "Memory resident",
                "Memory of the hosts that the QEMUs of each hold.",
                Unit::Bytes,
                memory,
                &whole(memory),
            ),
            most(
                "Disk requests",
                "Reads and writes per second of the guests of each.",
                Unit::Iops,
                requests,
                &whole(requests),
            ),
            most(
                "Network",
                "Bytes received and sent per second by the guests of each.",
                Unit::BytesPerSecond,
                network,
                &whole(network),
            ),
        ]
    }

    /// Whether flavors fit what their guests use.
    fn by_flavor(&self) -> Panel {
        let of = |operator: &str, number: &str| self.by(operator, "flavor", number);
        let columns = vec![
            Column::label("Flavor", "flavor"),
            Column::query("Running", &of("sum", "libvirt_domain_state{%host,state=\"running\"}"), Unit::Count)
                .width(90),
            Column::query("vCPUs", &of("sum", "libvirt_domain_vcpus_current{%host}"), Unit::Short).width(90),
            Column::query("Average CPU", &of("avg", CPU_SHARE), Unit::Ratio).bar(Some(1.0), rising(limit::CPU)),
            Column::query("Highest CPU", &of("max", CPU_SHARE), Unit::Ratio).bar(Some(1.0), rising(limit::CPU)),
            Column::query("Memory allocated", &of("sum", "libvirt_domain_memory_current_bytes{%host}"), Unit::Bytes),
            Column::query(
                "Average memory used",
                &of("avg", "(1 - domain:libvirt_domain_memory_usable:ratio{%host})"),
                Unit::Ratio,
            )
            .bar(Some(1.0), rising(limit::MEMORY_USABLE.of_the_rest())),
            Column::query("Worst guest's steal", &of("max", &steal("%host")), Unit::Ratio)
                .colored(rising(limit::STEAL)),
            Column::query(
                "Highest quota use",
                &of("max", "domain:libvirt_domain_cpu_quota:ratio_rate5m{%host}"),
                Unit::Ratio,
            )
            .colored(orange_from(limit::AT_LIMIT)),
            Column::query(
                "Highest throttle use",
                &of("max", "max by (instance, domain) (device:libvirt_domain_block_throttle:ratio_rate5m{%host})"),
                Unit::Ratio,
            )
            .colored(orange_from(limit::AT_LIMIT)),
        ];
        let about = "What guests of each flavor use of it, and of its limits: a flavor whose guests use little is too large for them, one \
            whose guests are at its limits too small.";
        table("Flavors", about, columns, ("vCPUs", true)).size(24, 7)
    }
}

const CPU: &str = "domain:libvirt_domain_cpu_time:rate5m{%host}";
/// CPUs that a guest keeps busy, for each of its vCPUs.
const CPU_SHARE: &str = "(domain:libvirt_domain_cpu_time:rate5m{%host} / libvirt_domain_vcpus_current{%host})";
const LATENCY: &str = "domain:libvirt_domain_block_latency_seconds:mean5m{%host}";
