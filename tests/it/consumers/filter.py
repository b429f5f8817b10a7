"""Whether the filter pattern of the Lambda example matches each line of standard input, by the matcher that LocalStack has for
event source mappings. Lambda gives a record whose data is one JSON text to it decoded, and drops others."""

import json
import sys

from localstack.services.events.event_rule_engine import EventRuleEngine

with open(sys.argv[1], encoding="utf-8") as file:
    pattern = json.load(file)
engine = EventRuleEngine()
for line in sys.stdin:
    print(json.dumps(engine.evaluate_pattern_on_event(pattern, {"data": json.loads(line)})))
