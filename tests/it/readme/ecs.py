"""Checks the files of deploy/ecs against botocore's definition of the ECS API, and that a wrong one is refused."""

import copy
import json
import pathlib

import botocore.session
from botocore.validate import ParamValidator

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "deploy/ecs"
REQUESTS = {
    "task-definition.json": "RegisterTaskDefinition",
    "task-definition.without-volume.json": "RegisterTaskDefinition",
    "service.json": "CreateService",
}


def errors(request: dict, operation: str) -> str:
    model = botocore.session.get_session().get_service_model("ecs").operation_model(operation)
    return ParamValidator().validate(request, model.input_shape).generate_report()


accepted, refused = 0, 0
for name, operation in REQUESTS.items():
    request = json.loads((FOLDER / name).read_text())
    found = errors(request, operation)
    assert not found, f"{name}: {found}"
    accepted += 1
    if "containerDefinitions" in request:
        container = request["containerDefinitions"][0]
        mounted = {mount["sourceVolume"] for mount in container["mountPoints"]}
        assert mounted == {volume["name"] for volume in request["volumes"]}, name
        never = {"name": "FOREBAY_BUFFER__CONFIRM_AFTER", "value": "never"} in container["environment"]
        assert never == ("efsVolumeConfiguration" not in request["volumes"][0]), name
wrong = copy.deepcopy(json.loads((FOLDER / "task-definition.json").read_text()))
wrong["containerDefinitions"][0]["stopTimeout"] = "15s"
refused += bool(errors(wrong, "RegisterTaskDefinition"))
print(f"{accepted} accepted, {refused} refused")
