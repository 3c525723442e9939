"""bucket.py URL NAME: creates a bucket on an S3 server that requires signed requests.

Signature version 4: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import os
import sys
import urllib.parse
import urllib.request
from datetime import datetime, timezone

# Hash of an empty request body.
EMPTY = hashlib.sha256(b"").hexdigest()


def signed(method, url, now):
    """Returns a signed request without a body."""
    where = urllib.parse.urlsplit(url)
    time, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": where.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": time}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = "\n".join([method, where.path, where.query, lines, names, EMPTY])
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return urllib.request.Request(url, method=method, headers=headers | {"Authorization": authorization})


if __name__ == "__main__":
    server, name = sys.argv[1:]
    urllib.request.urlopen(signed("PUT", f"{server}/{name}", datetime.now(timezone.utc))).read()
