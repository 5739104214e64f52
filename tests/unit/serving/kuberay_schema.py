"""What KubeRay's custom resources may hold, as far as our examples use it.

Written from the API reference of `ray.io/v1` (https://ray-project.github.io/kuberay/reference/api/): names, types,
enumerations and what is required. Fields that the examples do not use are left out, so an unknown field is refused, as
an API server does that is asked to be strict.
"""

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
LABELS = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": "^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"},
    "propertyNames": {"pattern": "^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"},
}
NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}


def fields(required=(), **properties):
    """An object that holds these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def several(item):
    return {"type": "array", "items": item, "minItems": 1}


CONTAINER = fields(
    ("name", "image"),
    name=NAME,
    image=TEXT,
    env=several(fields(("name", "value"), name=TEXT, value={"type": "string"})),
    ports=several(
        fields(("containerPort",), name=NAME, containerPort={"type": "integer", "minimum": 1, "maximum": 65535})
    ),
    resources=fields(requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=several(fields(("name", "mountPath"), name=NAME, mountPath=TEXT, readOnly={"type": "boolean"})),
)
POD = fields(
    ("spec",),
    spec=fields(
        ("containers",),
        containers=several(CONTAINER),
        nodeSelector=LABELS,
        tolerations=several(
            fields(
                key=TEXT,
                operator={"enum": ["Exists", "Equal"]},
                value={"type": "string"},
                effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            )
        ),
        terminationGracePeriodSeconds=COUNT,
        volumes=several(fields(("name",), name=NAME, configMap=fields(("name",), name=NAME))),
    ),
)
AUTOSCALER = fields(
    version={"enum": ["v1", "v2"]},
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    idleTimeoutSeconds=COUNT,
)
# The operator refuses labels among the start parameters: they belong to the group.
START_PARAMETERS = {**TEXTS, "not": {"required": ["labels"]}}
CLUSTER_SPEC = fields(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=fields(("template",), rayStartParams=START_PARAMETERS, labels=LABELS, template=POD),
    workerGroupSpecs=several(
        fields(
            ("groupName", "minReplicas", "maxReplicas", "template"),
            groupName=NAME,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=START_PARAMETERS,
            labels=LABELS,
            template=POD,
        )
    ),
)
JOB_SPEC = fields(
    ("entrypoint",),
    entrypoint=TEXT,
    clusterSelector=LABELS,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    shutdownAfterJobFinishes={"type": "boolean"},
)
SERVICE_SPEC = fields(("serveConfigV2", "rayClusterConfig"), serveConfigV2=TEXT, rayClusterConfig=CLUSTER_SPEC)


def resource(kind, spec):
    """A custom resource with its envelope."""
    metadata = fields(("name",), name=NAME, namespace=NAME)
    envelope = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}, "metadata": metadata, "spec": spec}
    return fields(tuple(envelope), **envelope)


SCHEMAS = {
    "raycluster": resource("RayCluster", CLUSTER_SPEC),
    "rayjob": resource("RayJob", JOB_SPEC),
    "rayservice": resource("RayService", SERVICE_SPEC),
}
