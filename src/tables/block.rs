//! `block.*`: disks, their backing layers, limits and latency statistics.

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Source};
use super::kind::{Origin, Subject};
use super::row::{Attributes, BYTES, NANOS, NONE, NUMBER, Row, Scope, Shape, Table, of};
use crate::libvirt::StatsGroups;

const READ: Attributes = &[("disk.io.direction", "read")];
const WRITE: Attributes = &[("disk.io.direction", "write")];
const ZONE_APPEND: Attributes = &[("disk.io.direction", "zone_append")];
const FLUSH: Attributes = &[("disk.io.direction", "flush")];

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "block",
    help: "Disks",
    source: Source::Stats(StatsGroups::BLOCK),
    prefix: "block",
    monitor: Some(Monitor { answers: KeyPattern::Suffix(".rd.reqs"), from_kvm: false, shows_job: true }),
    table: TABLE,
    ..GroupInfo::USUAL
};

/// The path of a disk itself comes from the domain's definition, which knows more of it.
/// With the backing chain, libvirt sends one numbered record a layer, the top image first, all with the disk's name.
#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Block),
    subject: Subject::Domain,
    origin: Origin::Device,
    active_only: false,
    scopes: &[
        Scope { prefix: "block.<n>", label: "device", named_by: Some("block.<n>.name") },
        Scope { prefix: "block.<n>.timed_group.<m>", label: "interval", named_by: Some("block.<n>.timed_group.<m>.interval") },
    ],
    rows: &[
        Row::gauge(&["block.count"], "libvirt_domain_block_devices", of("device"), ("libvirt.domain.disk.count", NONE),
            "Block devices of the domain; with the backing chain each layer counts"),
        Row::counter(&["block.<n>.rd.reqs"], "libvirt_domain_block_read_requests_total", of("operation"), ("libvirt.domain.disk.operations", READ),
            "Read requests of the guest that completed"),
        Row::counter(&["block.<n>.rd.bytes"], "libvirt_domain_block_read_bytes_total", BYTES, ("libvirt.domain.disk.io", READ),
            "Bytes that the guest read from the device"),
        Row::counter(&["block.<n>.rd.times"], "libvirt_domain_block_read_time_seconds_total", NANOS, ("libvirt.domain.disk.operation_time", READ),
            "Time that read requests took, summed over all of them"),
        Row::counter(&["block.<n>.wr.reqs"], "libvirt_domain_block_write_requests_total", of("operation"), ("libvirt.domain.disk.operations", WRITE),
            "Write requests of the guest that completed"),
        Row::counter(&["block.<n>.wr.bytes"], "libvirt_domain_block_write_bytes_total", BYTES, ("libvirt.domain.disk.io", WRITE),
            "Bytes that the guest wrote to the device"),
        Row::counter(&["block.<n>.wr.times"], "libvirt_domain_block_write_time_seconds_total", NANOS, ("libvirt.domain.disk.operation_time", WRITE),
            "Time that write requests took, summed over all of them"),
        Row::counter(&["block.<n>.fl.reqs"], "libvirt_domain_block_flush_requests_total", of("operation"), ("libvirt.domain.disk.operations", FLUSH),
            "Flush requests of the guest that completed"),
        Row::counter(&["block.<n>.fl.times"], "libvirt_domain_block_flush_time_seconds_total", NANOS, ("libvirt.domain.disk.operation_time", FLUSH),
            "Time that flush requests took, summed over all of them"),
        Row::counter(&["block.<n>.errors"], "libvirt_domain_block_errors_total", of("error"), ("libvirt.domain.disk.errors", NONE),
            "I/O errors of the device; only the Xen driver reports them"),
        Row::presence(&["block.<n>.error"], &["reason"], "libvirt_domain_block_error", ("libvirt.domain.disk.error", NONE),
            "I/O error of a block device that stopped the domain (virsh domblkerror), by reason, nospace or unspecified: always 1, no sample without an error")
            .of_probe(),
        Row::gauge(&["block.<n>.allocation"], "libvirt_domain_block_allocation_bytes", BYTES, ("libvirt.domain.disk.allocation", NONE),
            "Highest offset written in the image since the domain started; of a domain that is shut off, the space the image takes"),
        Row::gauge(&["block.<n>.capacity"], "libvirt_domain_block_capacity_bytes", BYTES, ("libvirt.domain.disk.capacity", NONE),
            "Size of the device as the guest sees it"),
        Row::gauge(&["block.<n>.physical"], "libvirt_domain_block_physical_bytes", BYTES, ("libvirt.domain.disk.physical", NONE),
            "Size of the image's file or device on the host"),
        Row::gauge(&["block.<n>.threshold"], "libvirt_domain_block_threshold_bytes", BYTES, ("libvirt.domain.disk.threshold", NONE),
            "Offset whose first write raises a threshold event, while one is armed"),
        Row::gauge(&["block.<n>.allocation"], "libvirt_domain_block_backing_allocation_bytes", BYTES, ("libvirt.domain.disk.backing.allocation", NONE),
            "Highest offset written in a backing layer since the domain started")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.capacity"], "libvirt_domain_block_backing_capacity_bytes", BYTES, ("libvirt.domain.disk.backing.capacity", NONE),
            "Size of a backing layer's contents")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.physical"], "libvirt_domain_block_backing_physical_bytes", BYTES, ("libvirt.domain.disk.backing.physical", NONE),
            "Size of a backing layer's file or device on the host")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.threshold"], "libvirt_domain_block_backing_threshold_bytes", BYTES, ("libvirt.domain.disk.backing.threshold", NONE),
            "Offset in a backing layer whose first write raises a threshold event, while one is armed")
            .shaped(Shape::BackingNumber),
        Row::info(&["block.<n>.path"], &["path"], "libvirt_domain_block_backing_info", ("libvirt.domain.disk.backing.info", NONE),
            "The image behind a backing layer")
            .shaped(Shape::BackingInfo),
        Row::gauge(&[], "libvirt_domain_block_backing_layers", of("layer"), ("libvirt.domain.disk.backing.layer.count", NONE),
            "Layers below the top image of a block device, where the backing chain is collected")
            .shaped(Shape::BackingLayers),
        Row::gauge(&["block.<n>.limits.request_alignment"], "libvirt_domain_block_backend_limit_request_alignment_bytes", BYTES, ("libvirt.domain.disk.backend_limit.request_alignment", NONE),
            "Alignment that requests to the device must have"),
        Row::gauge(&["block.<n>.limits.discard_max"], "libvirt_domain_block_backend_limit_discard_max_bytes", BYTES, ("libvirt.domain.disk.backend_limit.discard_max", NONE),
            "Largest discard request that the device takes; 0 is no limit"),
        Row::gauge(&["block.<n>.limits.discard_alignment"], "libvirt_domain_block_backend_limit_discard_alignment_bytes", BYTES, ("libvirt.domain.disk.backend_limit.discard_alignment", NONE),
            "Best alignment of discard requests"),
        Row::gauge(&["block.<n>.limits.write_zeroes_max"], "libvirt_domain_block_backend_limit_write_zeroes_max_bytes", BYTES, ("libvirt.domain.disk.backend_limit.write_zeroes_max", NONE),
            "Largest request to write zeroes that the device takes; 0 is no limit"),
        Row::gauge(&["block.<n>.limits.write_zeroes_alignment"], "libvirt_domain_block_backend_limit_write_zeroes_alignment_bytes", BYTES, ("libvirt.domain.disk.backend_limit.write_zeroes_alignment", NONE),
            "Best alignment of requests to write zeroes"),
        Row::gauge(&["block.<n>.limits.transfer_optimal"], "libvirt_domain_block_backend_limit_transfer_optimal_bytes", BYTES, ("libvirt.domain.disk.backend_limit.transfer_optimal", NONE),
            "Best size of a request"),
        Row::gauge(&["block.<n>.limits.transfer_max"], "libvirt_domain_block_backend_limit_transfer_max_bytes", BYTES, ("libvirt.domain.disk.backend_limit.transfer_max", NONE),
            "Largest request that the device takes; 0 is no limit"),
        Row::gauge(&["block.<n>.limits.transfer_hw_max"], "libvirt_domain_block_backend_limit_transfer_hw_max_bytes", BYTES, ("libvirt.domain.disk.backend_limit.transfer_hw_max", NONE),
            "Largest request that the host's hardware takes; 0 is no limit"),
        Row::gauge(&["block.<n>.limits.memory_alignment_minimal"], "libvirt_domain_block_backend_limit_memory_alignment_minimal_bytes", BYTES, ("libvirt.domain.disk.backend_limit.memory_alignment_minimal", NONE),
            "Alignment that memory buffers must have"),
        Row::gauge(&["block.<n>.limits.memory_alignment_optimal"], "libvirt_domain_block_backend_limit_memory_alignment_optimal_bytes", BYTES, ("libvirt.domain.disk.backend_limit.memory_alignment_optimal", NONE),
            "Best alignment of memory buffers"),
        Row::gauge(&["block.<n>.limits.iov_max"], "libvirt_domain_block_backend_limit_iov_max", of("element"), ("libvirt.domain.disk.backend_limit.iov_max", NONE),
            "Most scatter-gather elements in a request"),
        Row::gauge(&["block.<n>.limits.iov_hw_max"], "libvirt_domain_block_backend_limit_iov_hw_max", of("element"), ("libvirt.domain.disk.backend_limit.iov_hw_max", NONE),
            "Most scatter-gather elements in a request that the host's hardware takes; 0 is no limit"),
        Row::gauge(&["block.<n>.limits.request_alignment"], "libvirt_domain_block_backing_backend_limit_request_alignment_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.request_alignment", NONE),
            "Alignment that requests to a backing layer must have")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.discard_max"], "libvirt_domain_block_backing_backend_limit_discard_max_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.discard_max", NONE),
            "Largest discard request that a backing layer takes; 0 is no limit")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.discard_alignment"], "libvirt_domain_block_backing_backend_limit_discard_alignment_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.discard_alignment", NONE),
            "Best alignment of discard requests, in a backing layer")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.write_zeroes_max"], "libvirt_domain_block_backing_backend_limit_write_zeroes_max_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.write_zeroes_max", NONE),
            "Largest request to write zeroes that a backing layer takes; 0 is no limit")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.write_zeroes_alignment"], "libvirt_domain_block_backing_backend_limit_write_zeroes_alignment_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.write_zeroes_alignment", NONE),
            "Best alignment of requests to write zeroes, in a backing layer")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.transfer_optimal"], "libvirt_domain_block_backing_backend_limit_transfer_optimal_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.transfer_optimal", NONE),
            "Best size of a request, in a backing layer")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.transfer_max"], "libvirt_domain_block_backing_backend_limit_transfer_max_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.transfer_max", NONE),
            "Largest request that a backing layer takes; 0 is no limit")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.transfer_hw_max"], "libvirt_domain_block_backing_backend_limit_transfer_hw_max_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.transfer_hw_max", NONE),
            "Largest request that the host's hardware takes, for a backing layer; 0 is no limit")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.memory_alignment_minimal"], "libvirt_domain_block_backing_backend_limit_memory_alignment_minimal_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.memory_alignment_minimal", NONE),
            "Alignment that memory buffers must have, in a backing layer")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.memory_alignment_optimal"], "libvirt_domain_block_backing_backend_limit_memory_alignment_optimal_bytes", BYTES, ("libvirt.domain.disk.backing.backend_limit.memory_alignment_optimal", NONE),
            "Best alignment of memory buffers, in a backing layer")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.iov_max"], "libvirt_domain_block_backing_backend_limit_iov_max", of("element"), ("libvirt.domain.disk.backing.backend_limit.iov_max", NONE),
            "Most scatter-gather elements in a request, in a backing layer")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.limits.iov_hw_max"], "libvirt_domain_block_backing_backend_limit_iov_hw_max", of("element"), ("libvirt.domain.disk.backing.backend_limit.iov_hw_max", NONE),
            "Most scatter-gather elements in a request that the host's hardware takes, for a backing layer; 0 is no limit")
            .shaped(Shape::BackingNumber),
        Row::gauge(&["block.<n>.timed_group.count"], "libvirt_domain_block_timed_groups", of("group"), ("libvirt.domain.disk.timed_group.count", NONE),
            "Intervals over which the device's latency is averaged"),
        Row::gauge(&["block.<n>.timed_group.<m>.rd_latency_min"], "libvirt_domain_block_read_latency_min_seconds", NANOS, ("libvirt.domain.disk.latency.min", READ),
            "Shortest latency of read requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.rd_latency_max"], "libvirt_domain_block_read_latency_max_seconds", NANOS, ("libvirt.domain.disk.latency.max", READ),
            "Longest latency of read requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.rd_latency_avg"], "libvirt_domain_block_read_latency_avg_seconds", NANOS, ("libvirt.domain.disk.latency.avg", READ),
            "Average latency of read requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.wr_latency_min"], "libvirt_domain_block_write_latency_min_seconds", NANOS, ("libvirt.domain.disk.latency.min", WRITE),
            "Shortest latency of write requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.wr_latency_max"], "libvirt_domain_block_write_latency_max_seconds", NANOS, ("libvirt.domain.disk.latency.max", WRITE),
            "Longest latency of write requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.wr_latency_avg"], "libvirt_domain_block_write_latency_avg_seconds", NANOS, ("libvirt.domain.disk.latency.avg", WRITE),
            "Average latency of write requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.zone_append_latency_min"], "libvirt_domain_block_zone_append_latency_min_seconds", NANOS, ("libvirt.domain.disk.latency.min", ZONE_APPEND),
            "Shortest latency of zone append requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.zone_append_latency_max"], "libvirt_domain_block_zone_append_latency_max_seconds", NANOS, ("libvirt.domain.disk.latency.max", ZONE_APPEND),
            "Longest latency of zone append requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.zone_append_latency_avg"], "libvirt_domain_block_zone_append_latency_avg_seconds", NANOS, ("libvirt.domain.disk.latency.avg", ZONE_APPEND),
            "Average latency of zone append requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.flush_latency_min"], "libvirt_domain_block_flush_latency_min_seconds", NANOS, ("libvirt.domain.disk.latency.min", FLUSH),
            "Shortest latency of flush requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.flush_latency_max"], "libvirt_domain_block_flush_latency_max_seconds", NANOS, ("libvirt.domain.disk.latency.max", FLUSH),
            "Longest latency of flush requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.flush_latency_avg"], "libvirt_domain_block_flush_latency_avg_seconds", NANOS, ("libvirt.domain.disk.latency.avg", FLUSH),
            "Average latency of flush requests in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.rd_queue_depth_avg"], "libvirt_domain_block_read_queue_depth_avg", NUMBER, ("libvirt.domain.disk.queue_depth.avg", READ),
            "Average number of read requests in flight in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.wr_queue_depth_avg"], "libvirt_domain_block_write_queue_depth_avg", NUMBER, ("libvirt.domain.disk.queue_depth.avg", WRITE),
            "Average number of write requests in flight in the last interval"),
        Row::gauge(&["block.<n>.timed_group.<m>.zone_append_queue_depth_avg"], "libvirt_domain_block_zone_append_queue_depth_avg", NUMBER, ("libvirt.domain.disk.queue_depth.avg", ZONE_APPEND),
            "Average number of zone append requests in flight in the last interval"),
        Row::histogram(&["block.<n>.latency_histogram.read.bin.<m>.start", "block.<n>.latency_histogram.read.bin.<m>.value", "block.<n>.latency_histogram.read.bin.count"], Some("block.<n>.rd.times"),
            "libvirt_domain_block_read_latency_seconds", ("libvirt.domain.disk.latency", READ),
            "Latency of read requests, by the bins of the domain XML"),
        Row::histogram(&["block.<n>.latency_histogram.write.bin.<m>.start", "block.<n>.latency_histogram.write.bin.<m>.value", "block.<n>.latency_histogram.write.bin.count"], Some("block.<n>.wr.times"),
            "libvirt_domain_block_write_latency_seconds", ("libvirt.domain.disk.latency", WRITE),
            "Latency of write requests, by the bins of the domain XML"),
        Row::histogram(&["block.<n>.latency_histogram.zone_append.bin.<m>.start", "block.<n>.latency_histogram.zone_append.bin.<m>.value", "block.<n>.latency_histogram.zone_append.bin.count"], None,
            "libvirt_domain_block_zone_append_latency_seconds", ("libvirt.domain.disk.latency", ZONE_APPEND),
            "Latency of zone append requests, by the bins of the domain XML"),
        Row::histogram(&["block.<n>.latency_histogram.flush.bin.<m>.start", "block.<n>.latency_histogram.flush.bin.<m>.value", "block.<n>.latency_histogram.flush.bin.count"], Some("block.<n>.fl.times"),
            "libvirt_domain_block_flush_latency_seconds", ("libvirt.domain.disk.latency", FLUSH),
            "Latency of flush requests, by the bins of the domain XML"),
    ],
};
