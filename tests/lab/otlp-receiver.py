"""Takes OTLP metrics over gRPC and HTTP, and prints a line of JSON for each request. Run by otlp-receiver.sh."""

import gzip
import json
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as service_grpc

lock = threading.Lock()


def say(value):
    with lock:
        print(json.dumps(value), flush=True)


def value_of(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def report(transport, request):
    """One series: [metric, attributes, value]; a histogram's value is its count and bucket counts."""
    series = []
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                for point in data.data_points:
                    attributes = {pair.key: str(value_of(pair.value)) for pair in point.attributes}
                    if metric.HasField("histogram"):
                        value = [point.count, list(point.bucket_counts), list(point.explicit_bounds)]
                    elif point.WhichOneof("value"):
                        value = getattr(point, point.WhichOneof("value"))
                    else:
                        value = None
                    series.append([metric.name, attributes, value])
    say({"transport": transport, "bytes": request.ByteSize(), "series": series})


class Service(service_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        report("grpc", request)
        return service.ExportMetricsServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        report("http/protobuf", service.ExportMetricsServiceRequest.FromString(body))
        answer = service.ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200)
        if "gzip" in self.headers.get("accept-encoding", ""):
            answer = gzip.compress(answer)
            self.send_header("content-encoding", "gzip")
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


# The limit that receivers have by default stays: what is too large for them is refused here too. Answers are compressed where
# the client accepts that, as those of the OpenTelemetry Collector are.
server = grpc.server(futures.ThreadPoolExecutor(2), compression=grpc.Compression.Gzip)
service_grpc.add_MetricsServiceServicer_to_server(Service(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
say({"grpc": port, "http": http.server_address[1]})
http.serve_forever()
