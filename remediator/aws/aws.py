"""AWS as the remediator uses it: one object over one set of connections.

This package is the only door to AWS, but for its price list (remediator.cost.pricing_api).
"""

from remediator.aws.elastic_ips import ElasticIps
from remediator.aws.file_store import FileStore
from remediator.aws.instance_attributes import InstanceAttributes
from remediator.aws.instance_lifecycle import InstanceLifecycle
from remediator.aws.parameter_store import ParameterStore
from remediator.aws.ssm_commands import SsmCommands
from remediator.aws.volumes import Volumes


class Aws(InstanceLifecycle, InstanceAttributes, ElasticIps, Volumes, SsmCommands, ParameterStore, FileStore):
    """EC2, Systems Manager and, for files, S3, each concept in a module of its own."""
