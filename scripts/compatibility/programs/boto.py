"""boto3 before moto: `boto.py BASE` goes through S3, SQS, DynamoDB, SNS and STS, and prints what went wrong."""

import io
import json
import sys
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig

base = sys.argv[1]
keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1", "endpoint_url": base}
told = {}


def tried(name, work):
    try:
        told[name] = work()
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"[:160]


def s3():
    client = boto3.client("s3", **keys)
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    small = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    client.upload_fileobj(io.BytesIO(b"x" * (11 << 20)), "bucket", "large", Config=small)
    part = client.get_object(Bucket="bucket", Key="large", Range="bytes=0-9")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "large"})
    length = len(urllib.request.urlopen(url).read())
    return "ok" if part["Body"].read() == b"x" * 10 and length == 11 << 20 else f"wrong: {length}"


def sqs():
    client = boto3.client("sqs", **keys)
    url = client.create_queue(QueueName="q")["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="hello")
    got = client.receive_message(QueueUrl=url)["Messages"][0]["Body"]
    return ("ok" if got == "hello" else got) + ("" if url.startswith(base) else ", QueueUrl names the upstream")


def dynamodb():
    client = boto3.client("dynamodb", **keys)
    key = [{"AttributeName": "k", "KeyType": "HASH"}]
    attributes = [{"AttributeName": "k", "AttributeType": "S"}]
    client.create_table(TableName="t", KeySchema=key, AttributeDefinitions=attributes, BillingMode="PAY_PER_REQUEST")
    client.put_item(TableName="t", Item={"k": {"S": "1"}})
    return "ok" if client.get_item(TableName="t", Key={"k": {"S": "1"}})["Item"]["k"]["S"] == "1" else "wrong"


def missing_table():
    boto3.client("dynamodb", **keys).put_item(TableName="none", Item={"k": {"S": "1"}})
    return "no error"


def sns():
    client = boto3.client("sns", **keys)
    topic = client.create_topic(Name="n")["TopicArn"]
    return "ok" if client.publish(TopicArn=topic, Message="x")["MessageId"] else "wrong"


def sts():
    return "ok" if boto3.client("sts", **keys).get_caller_identity()["Account"] else "wrong"


for work in (s3, sqs, dynamodb, missing_table, sns, sts):
    tried(work.__name__, work)
print(json.dumps(told))
