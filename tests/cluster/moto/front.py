"""moto's CloudWatch behind the protocol of the AWS SDKs, Smithy RPC v2 CBOR, on loopback.

moto itself does not speak it. A body is decoded, the operation called in process, the answer
encoded. Usage: front.py PORT
"""

import datetime
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import cbor2
from botocore.exceptions import ClientError
from moto import mock_aws

PATH = re.compile("^/service/GraniteServiceVersion20100801/operation/([A-Za-z]+)$")


def snake(name):
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        operation = PATH.match(self.path)
        if not operation:
            return self.answer(404, {"__type": "UnknownOperationException", "message": self.path})
        try:
            result = getattr(self.server.cloudwatch, snake(operation[1]))(**cbor2.loads(body))
        except ClientError as error:
            said = error.response["Error"]
            return self.answer(400, {"__type": said["Code"], "message": said["Message"]})
        except Exception as error:
            return self.answer(500, {"__type": "InternalServiceFault", "message": repr(error)})
        del result["ResponseMetadata"]
        return self.answer(200, result)

    def answer(self, status, body):
        body = cbor2.dumps(body, datetime_as_timestamp=True, timezone=datetime.timezone.utc)
        self.send_response(status)
        self.send_header("content-type", "application/cbor")
        self.send_header("smithy-protocol", "rpc-v2-cbor")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


with mock_aws():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Front)
    server.cloudwatch = boto3.client(
        "cloudwatch", "eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    server.serve_forever()
