-- The rules of events/lab.toml need the whole old row, not only its key:
--   lab.plates    for old.status, the status before
--   lab.samples   for plate_id and well of a deleted sample
-- Until this is run, Forebay refuses to start with those rules and prints the command. With it, UPDATE and DELETE write the
-- old row into the WAL too, which makes the WAL larger.
alter table lab.plates replica identity full;
alter table lab.samples replica identity full;
