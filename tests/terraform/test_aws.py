"""The modules aws, bucket and identity with AWS' real provider: validated always, applied and destroyed as a slow test.

What is applied against is an emulator (moto), which answers as AWS does where these modules ask it, but for what
docs/terraform.md names; buckets are made in a SeaweedFS too. Skipped where terraform or the provider is not on the machine.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from benchmarks.processes import run_process
from support.crd import REPOSITORY
from support.polling import eventually
from support.processes import free_ports
from support.seaweed import SeaweedFS
from support.terraform import MODULES, Terraform, aws_provider, terraform_program

SERVICES: Final = ("autoscaling", "ec2", "ecr", "eks", "iam", "kms", "logs", "s3", "sqs", "sts")
OF_AWS: Final = ("aws", "bucket", "identity")


def provider(endpoint: str, services: tuple[str, ...], key: str = "test", secret: str = "test") -> dict[str, Any]:
    """Return the configuration of the provider against one endpoint; AWS itself is asked nothing."""
    asked = {"skip_credentials_validation": True, "skip_metadata_api_check": True, "skip_region_validation": True}
    return {
        "region": "eu-central-1",
        "access_key": key,
        "secret_key": secret,
        "s3_use_path_style": True,
        "skip_requesting_account_id": "sts" not in services,
        "endpoints": [dict.fromkeys(services, endpoint)],
        **asked,
    }


def everything(endpoint: str) -> dict[str, Any]:
    """Return a configuration that calls the three modules as examples/aws does."""

    return {
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws"}}},
        "provider": {"aws": provider(endpoint, SERVICES)},
        "module": {
            # What the emulator has not, or forgets.
            "aws": {
                "source": str(MODULES / "aws"),
                "public_access_cidrs": ["203.0.113.7/32"],
                "flow_logs": True,
                "addons": {},
                "authentication_mode": None,
                "scale_from_zero_tags": False,
            },
            "store": {
                "source": str(MODULES / "bucket"),
                "name": "acme-store",
                "expire_days": {"frazil/exchange/": 1},
            },
            "data": {
                "source": str(MODULES / "bucket"),
                "name": "acme-data",
                "versioning": True,
                "notifications": "sqs",
                "notification_prefixes": ["incoming/"],
            },
            "identity": {
                "source": str(MODULES / "identity"),
                "oidc_provider_arn": "${module.aws.oidc_provider_arn}",
                "store": {"bucket_arn": "${module.store.arn}", "prefix": "frazil/"},
                "data": [{"bucket_arn": "${module.data.arn}", "read_prefixes": [""], "write_prefixes": ["results/"]}],
                "queue_arns": ["${module.data.queue_arn}"],
            },
        },
        "output": {
            "roles": {"value": "${module.identity.role_names}"},
            "repositories": {"value": "${module.aws.repository_urls}"},
            "queue": {"value": "${module.data.queue_url}"},
        },
    }


def terraform_for(folder: Path, configuration: dict[str, Any]) -> Terraform:
    (folder / "main.tf.json").write_text(json.dumps(configuration))
    terraform = Terraform(folder=folder, mirror=aws_provider())
    terraform.init()
    return terraform


def test_the_modules_of_aws_are_valid_by_their_provider(tmp_path: Path) -> None:
    terraform_program()
    terraform = terraform_for(tmp_path, everything("http://127.0.0.1:1"))
    assert "The configuration is valid" in terraform.run("validate").stdout


def test_files_are_laid_out_as_terraform_does_it() -> None:
    folder = MODULES.parent
    done = Terraform.formatted(folder)
    assert done == "", "run `terraform fmt -recursive terraform`"


@pytest.mark.slow
@pytest.mark.parametrize("module", OF_AWS)
def test_the_modules_own_tests_pass_with_a_provider_that_asks_nobody(module: str, tmp_path: Path) -> None:
    terraform_program()
    shutil.copytree(MODULES / module, tmp_path / module)
    terraform = Terraform(folder=tmp_path / module, mirror=aws_provider())
    terraform.init()
    assert ", 0 failed" in terraform.run("test").stdout


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Run moto on loopback while the context lasts."""
    (port,) = free_ports(1)
    command = [sys.executable, str(REPOSITORY / "tests" / "support" / "aws_emulator.py"), "-H", "127.0.0.1", "-p", str(port)]
    log = folder / "moto.log"
    with run_process(command, log=log, env={"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}):
        eventually(lambda: "Running on" in log.read_text(), "moto answers")
        yield f"http://127.0.0.1:{port}"


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service, endpoint_url=endpoint, region_name="eu-central-1", aws_access_key_id="t", aws_secret_access_key="t"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_aws_is_made_is_as_it_was_asked_for_changes_nothing_a_second_time_and_goes(tmp_path: Path) -> None:
    terraform_program()
    (tmp_path / "configuration").mkdir()
    with emulator(tmp_path) as endpoint:
        terraform = terraform_for(tmp_path / "configuration", everything(endpoint))
        terraform.apply()
        looked_at(endpoint, terraform.outputs())
        assert terraform.changes() == ""
        terraform.destroy()
        assert terraform.resources() == []
        assert client("eks", endpoint).list_clusters()["clusters"] == []
        assert client("s3", endpoint).list_buckets()["Buckets"] == []


def looked_at(endpoint: str, outputs: dict[str, Any]) -> None:
    """Ask the emulator, and not terraform's state, for what counts."""
    eks = client("eks", endpoint)
    pool = eks.describe_nodegroup(clusterName="frazil", nodegroupName="functions")["nodegroup"]
    assert (pool["capacityType"], pool["scalingConfig"]["minSize"], pool["scalingConfig"]["desiredSize"]) == ("SPOT", 0, 0)
    assert pool["taints"] == [{"key": "frazil.dev/functions", "value": "true", "effect": "NO_SCHEDULE"}]
    assert eks.describe_cluster(name="frazil")["cluster"]["encryptionConfig"][0]["resources"] == ["secrets"]
    s3 = client("s3", endpoint)
    block = s3.get_public_access_block(Bucket="acme-store")["PublicAccessBlockConfiguration"]
    assert all(block.values())
    rules = s3.get_bucket_lifecycle_configuration(Bucket="acme-store")["Rules"]
    assert [(each["Filter"]["Prefix"], each["Expiration"]["Days"]) for each in rules if "Expiration" in each] == [
        ("frazil/exchange/", 1)
    ]
    notified = s3.get_bucket_notification_configuration(Bucket="acme-data")["QueueConfigurations"]
    assert notified[0]["Filter"]["Key"]["FilterRules"][0]["Value"] == "incoming/"
    iam = client("iam", endpoint)
    policy = iam.get_role_policy(RoleName=outputs["roles"]["frazil-function"], PolicyName="storage")["PolicyDocument"]
    written = {
        resource for each in policy["Statement"] if "s3:PutObject" in each["Action"] for resource in aslist(each["Resource"])
    }
    assert written == {"arn:aws:s3:::acme-store/frazil/*", "arn:aws:s3:::acme-data/results/*"}
    assert set(outputs["repositories"]) == {"frazil-coordinator", "frazil-function"}
    vpcs = client("ec2", endpoint).describe_vpc_endpoints()["VpcEndpoints"]
    assert [each["ServiceName"] for each in vpcs] == ["com.amazonaws.eu-central-1.s3"]


def aslist(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bucket_is_made_in_a_store_that_only_speaks_s3_and_goes(tmp_path: Path, seaweed: SeaweedFS) -> None:
    terraform_program()
    configuration = {
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws"}}},
        "provider": {"aws": provider(seaweed.endpoint, ("s3", "s3control"), seaweed.access_key, seaweed.secret_key)},
        "module": {
            "store": {
                "source": str(MODULES / "bucket"),
                "name": "terraform-store",
                "s3_compatible": True,
                "force_destroy": True,
                "expire_days": {"frazil/exchange/": 1},
            }
        },
        "output": {"url": {"value": "${module.store.url}"}},
    }
    terraform = terraform_for(tmp_path, configuration)
    terraform.apply()
    assert terraform.outputs() == {"url": "s3://terraform-store"}
    rules = seaweed.client().get_bucket_lifecycle_configuration(Bucket="terraform-store")["Rules"]
    assert [each["Filter"]["Prefix"] for each in rules if "Expiration" in each] == ["frazil/exchange/"]
    assert terraform.changes() == ""
    seaweed.client().put_object(Bucket="terraform-store", Key="frazil/exchange/1", Body=b"x")
    terraform.destroy()
    assert "terraform-store" not in [each["Name"] for each in seaweed.client().list_buckets()["Buckets"]]
