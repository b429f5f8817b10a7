-- What the rules of events/lab.toml need beside schema.sql: the whole old row.
--   lab.plates    old.status says what a plate was before it was completed
--   lab.samples   a withdrawn sample tells its last plate and well, which are not its key
-- Until this is run, Forebay refuses to start with those rules, and names the command. It makes UPDATE and DELETE write the
-- old row into the write-ahead log as well.
alter table lab.plates replica identity full;
alter table lab.samples replica identity full;
