-- A small laboratory: plates, the samples on them, and liquid moved between them. The demo and the tests use it.
--
-- Triggers note every change of a row in audit.changes, in the same transaction. The column nr follows the order of writes.
-- For one key this is the commit order too, because writers of a row wait for each other. A checker compares this table with
-- the stream, so it depends on nothing that reads the WAL.

do $$ begin
  if not exists (select from pg_roles where rolname = 'lab') then create role lab; end if;
end $$;

create schema lab;
create type lab.plate_status as enum ('empty', 'filled', 'sealed', 'completed', 'discarded');

create table lab.plates (
  plate_id        bigint primary key,
  barcode         text not null unique,
  status          lab.plate_status not null default 'empty',
  volume_ul       numeric(12,3) not null default 0,      -- microlitres in all its wells
  wells           smallint not null default 96,
  sealed_at       timestamptz,
  labels          text[] not null default '{}',
  protocol        jsonb not null default '{}',
  notes           text,                                  -- long ones are TOASTed
  operator_email  text,
  version         bigint not null default 1
);
alter table lab.plates alter column notes set storage external;
comment on table lab.plates is 'One microtitre plate.';

create table lab.samples (
  sample_code     text primary key,                      -- may be corrected: the key itself then changes
  plate_id        bigint not null references lab.plates on delete cascade,
  well            text not null,
  concentration   double precision,
  taken_at        timestamptz not null default now(),
  version         bigint not null default 1
);
create index on lab.samples (plate_id);

create table lab.transfers (
  transfer_id     bigint primary key,
  source_plate    bigint not null references lab.plates on delete cascade,
  target_plate    bigint not null references lab.plates on delete cascade,
  volume_ul       numeric(9,3) not null check (volume_ul > 0),
  wells           integer[] not null default '{}',
  done_at         timestamptz not null default now(),
  version         bigint not null default 1
);
create index on lab.transfers (source_plate);
create index on lab.transfers (target_plate);

create schema audit;
create table audit.changes (
  nr          bigserial primary key,
  table_name  text not null,
  key         text not null,
  op          text not null check (op in ('inserted', 'updated', 'deleted')),
  version     bigint                                     -- of the row after the change; null for deleted
);

-- Every update increments the version, so that each state of a row is distinct.
create function audit.next_version() returns trigger language plpgsql as $$
begin
  new.version := old.version + 1;
  return new;
end $$;

-- Argument: the key column. A changed key is noted as a delete and an insert, as in the stream.
create function audit.note() returns trigger language plpgsql security definer as $$
declare
  name text := tg_table_schema || '.' || tg_table_name;
  old_key text := to_jsonb(old) ->> tg_argv[0];
  new_key text := to_jsonb(new) ->> tg_argv[0];
begin
  if tg_op = 'UPDATE' and old_key = new_key then
    insert into audit.changes (table_name, key, op, version) values (name, new_key, 'updated', new.version);
    return null;
  end if;
  if tg_op <> 'INSERT' then
    insert into audit.changes (table_name, key, op) values (name, old_key, 'deleted');
  end if;
  if tg_op <> 'DELETE' then
    insert into audit.changes (table_name, key, op, version) values (name, new_key, 'inserted', new.version);
  end if;
  return null;
end $$;

do $$
declare
  spec text[];
begin
  foreach spec slice 1 in array array[['plates', 'plate_id'], ['samples', 'sample_code'], ['transfers', 'transfer_id']]
  loop
    execute format('create trigger next_version before update on lab.%I
                    for each row execute function audit.next_version()', spec[1]);
    execute format('create trigger note after insert or update or delete on lab.%I
                    for each row execute function audit.note(%L)', spec[1], spec[2]);
    execute format('alter table lab.%I owner to lab', spec[1]);
  end loop;
end $$;

grant usage on schema lab to lab;
