"""What Python readers make of a schema: jsonschema, and the pydantic models of datamodel-code-generator.

Standard input: {"schema": ..., "values": [...]}. Prints one line of JSON: for each value, who accepts it.
"""
import importlib.util
import json
import pathlib
import sys
import tempfile
import warnings

import datamodel_code_generator as generator
import jsonschema
import pydantic

warnings.simplefilter("ignore")
given = json.load(sys.stdin)
schema, values = given["schema"], given["values"]
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)

with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "model.py")
    generator.generate(
        json.dumps(schema),
        input_file_type=generator.InputFileType.JsonSchema,
        output=file,
        output_model_type=generator.DataModelType.PydanticV2BaseModel,
    )
    spec = importlib.util.spec_from_file_location("model", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    text = file.read_text()


def fits(value):
    try:
        getattr(module, schema["title"]).model_validate(value)
        return True
    except pydantic.ValidationError:
        return False


print(json.dumps({
    "jsonschema": [validator.is_valid(value) for value in values],
    "pydantic": [fits(value) for value in values],
    "model": text,
}))
