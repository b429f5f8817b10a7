"""A laboratory at work: about 40 transactions a second on the tables of config/lab/schema.sql, until SIGTERM.

Rows are inserted, updated (also their keys) and deleted with what hangs on them; some transactions are rolled back. What was
committed is in audit.changes, which triggers fill in the same transaction.
"""

import random
import signal
import time

from common import postgres

running = True


def stop(*_):
    global running
    running = False


def number():
    return random.getrandbits(40)


def text(length):
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


class Laboratory:
    def __init__(self):
        self.connection = postgres()
        self.plates, self.samples, self.transfers = [], [], []

    def statement(self):
        steps = [
            (20, self.add_plate),
            (25, self.update_plate),
            (14, self.add_sample),
            (7, self.rename_sample),
            (20, self.add_transfer),
            (6, self.correct_transfer),
            (8, self.delete),
        ]
        step = random.choices([step for _, step in steps], weights=[weight for weight, _ in steps])[0]
        if len(self.plates) < 3 or (step in (self.rename_sample, self.delete) and not self.samples):
            step = self.add_plate
        if step == self.correct_transfer and not self.transfers:
            step = self.add_transfer
        return step()

    def add_plate(self):
        plate = number()
        self.plates.append(plate)
        notes = "null" if random.random() < 0.3 else f"'{text(12_000 if random.random() < 0.05 else 40)}'"
        return (
            "insert into lab.plates (plate_id, barcode, volume_ul, labels, protocol, notes, operator_email) values "
            f"({plate}, 'PLT-{plate}', {random.randrange(100_000)} / 1000.0, array['new', '{text(6)}'], "
            f"""'{{"steps": [1, 2], "reader": null}}', {notes}, '{text(6)}@lab.example')"""
        )

    def update_plate(self):
        changes = [
            "status = 'sealed', sealed_at = clock_timestamp()",
            f"volume_ul = volume_ul + {random.randrange(1, 5000)} / 1000.0",
            f"""protocol = protocol || '{{"run": {random.randrange(1000)}}}'""",
        ]
        return f"update lab.plates set {random.choice(changes)} where plate_id = {random.choice(self.plates)}"

    def add_sample(self):
        code = f"S-{number()}"
        self.samples.append(code)
        return (
            "insert into lab.samples (sample_code, plate_id, well, concentration) select "
            f"'{code}', plate_id, 'A{random.randrange(1, 13)}', {random.randrange(1000)} / 7.0 "
            f"from lab.plates where plate_id = {random.choice(self.plates)}"
        )

    def rename_sample(self):
        old, new = random.choice(self.samples), f"S-{number()}"
        self.samples.append(new)
        return f"update lab.samples set sample_code = '{new}' where sample_code = '{old}'"

    def add_transfer(self):
        transfer = number()
        self.transfers.append(transfer)
        source, target = random.choice(self.plates), random.choice(self.plates)
        return (
            "insert into lab.transfers (transfer_id, source_plate, target_plate, volume_ul, wells) select "
            f"{transfer}, s.plate_id, t.plate_id, {random.randrange(1, 10_000)} / 1000.0, '{{1,2,3}}' "
            f"from lab.plates s, lab.plates t where s.plate_id = {source} and t.plate_id = {target}"
        )

    def correct_transfer(self):
        return f"update lab.transfers set volume_ul = volume_ul + 0.125 where transfer_id = {random.choice(self.transfers)}"

    def delete(self):
        if random.random() < 0.2:
            return f"delete from lab.plates where plate_id = {random.choice(self.plates)}"
        return f"delete from lab.samples where sample_code = '{random.choice(self.samples)}'"

    def transaction(self):
        statements = "; ".join(self.statement() for _ in range(random.randrange(1, 8)))
        end = "rollback" if random.random() < 0.05 else "commit"
        self.connection.run(f"begin; {statements}; {end}")


signal.signal(signal.SIGTERM, stop)
laboratory = Laboratory()
while running:
    laboratory.transaction()
    time.sleep(0.02)
