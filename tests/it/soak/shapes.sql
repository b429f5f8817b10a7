-- What the mixed rounds write beside the lab: rows at which a rule fails, rows that no stream takes, and a table that changes
-- its form all the time. Every write of a row is noted in audit.changes, as those of the lab are.

create table lab.letters (
  letter_id  text primary key,
  n          int not null                 -- 0: the rule of soak.toml divides by it; else it makes no event
);
create table lab.poison (
  poison_id  text primary key,
  notes      text not null
);
-- What no stream ever has is here instead.
create table audit.planted (key text primary key);
create function audit.note_planted() returns trigger language plpgsql security definer as $$
begin
  insert into audit.planted values (coalesce(to_jsonb(new) ->> 'poison_id', to_jsonb(new) ->> 'letter_id'));
  return null;
end $$;
create trigger note after insert on lab.poison for each row execute function audit.note_planted();
create trigger note after insert on lab.letters for each row when (new.n = 0) execute function audit.note_planted();
alter table lab.letters owner to lab;
alter table lab.poison owner to lab;

create type lab.spot as (x int, label text);
create type lab.mood as enum ('calm', 'busy');
alter type lab.spot owner to lab;
alter type lab.mood owner to lab;
create sequence audit.shape;

-- Each row as it was when it was written.
create table audit.images (nr bigserial primary key, key text not null, version bigint not null, image jsonb not null);

create function audit.note_shape() returns trigger language plpgsql security definer as $$
declare
  image jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
  name text := coalesce(image ->> 'shape_id', image ->> 'id');
  version bigint := (image ->> 'version')::bigint;
begin
  if tg_op = 'DELETE' then
    insert into audit.changes (table_name, key, op) values ('lab.shapes', name, 'deleted');
    return null;
  end if;
  insert into audit.changes (table_name, key, op, version)
    values ('lab.shapes', name, case tg_op when 'INSERT' then 'inserted' else 'updated' end, version);
  insert into audit.images (key, version, image) values (name, version, image);
  return null;
end $$;

create function audit.make_shapes() returns void language plpgsql as $$
begin
  drop table if exists lab.shapes;
  create table lab.shapes (
    shape_id bigint primary key, spot lab.spot, mood lab.mood, a int, b text, version bigint not null default 1
  );
  create trigger next_version before update on lab.shapes for each row execute function audit.next_version();
  create trigger note after insert or update or delete on lab.shapes for each row execute function audit.note_shape();
  alter table lab.shapes owner to lab;
  if exists (select from pg_publication where pubname = 'forebay_lab') then
    alter publication forebay_lab add table lab.shapes;
  end if;
end $$;
select audit.make_shapes();

-- A value of a type, as text.
create function audit.some_value(type oid, n bigint) returns text language plpgsql as $$
declare
  relation oid;
begin
  if type = to_regtype('lab.mood') then
    -- The last ones may be too new to be used in this transaction.
    return (select enumlabel from pg_enum where enumtypid = type order by enumsortorder limit 1);
  end if;
  select typrelid into relation from pg_type where pg_type.oid = type and typtype = 'c';
  if relation is null then
    return case when type = 'text'::regtype then 'text ' || n else (n % 1000)::text end;
  end if;
  return (select '(' || string_agg(audit.some_value(atttypid, n + attnum), ',' order by attnum) || ')'
          from pg_attribute where attrelid = relation and attnum > 0 and not attisdropped);
end $$;

create function audit.key_of_shapes() returns text language sql as $$
  select attname::text from pg_attribute
  where attrelid = to_regclass('lab.shapes') and attname in ('shape_id', 'id') and not attisdropped
$$;

-- Inserts one row with a value in every column.
create function audit.insert_shape() returns void language plpgsql as $$
declare
  n bigint := nextval('audit.shape');
  names text;
  vals text;
begin
  select string_agg(quote_ident(attname), ', ' order by attnum),
         string_agg(case when attname in ('shape_id', 'id') then n::text when attname = 'version' then '1'
                    else quote_literal(audit.some_value(atttypid, n)) end, ', ' order by attnum)
    into names, vals
    from pg_attribute where attrelid = to_regclass('lab.shapes') and attnum > 0 and not attisdropped;
  execute format('insert into lab.shapes (%s) values (%s)', names, vals);
end $$;

-- Updates or deletes one of the newest rows, if there is one.
create function audit.touch_shape(n bigint) returns void language plpgsql as $$
declare
  key text := audit.key_of_shapes();
  sets text;
  one bigint;
begin
  execute format('select %1$I from (select %1$I from lab.shapes order by %1$I desc limit 8) k offset %2$s limit 1', key, n % 8) into one;
  if n % 10 = 0 then
    execute format('delete from lab.shapes where %I = %s', key, coalesce(one, 0));
    return;
  end if;
  select string_agg(format('%I = %L', attname, audit.some_value(atttypid, n)), ', ') into sets
    from pg_attribute
    where attrelid = to_regclass('lab.shapes') and attnum > 0 and not attisdropped and attname not in ('shape_id', 'id', 'version');
  execute format('update lab.shapes set %s where %I = %s', coalesce(sets, 'version = 1'), key, coalesce(one, 0));
end $$;

-- Attributes of lab.spot that were added or altered in this window. Each is altered once at most, and not in a window in which the
-- table is made anew: between two looks, more cannot be told apart (docs/RELIABILITY.md).
create table audit.altered (name text primary key);

-- One command about the table, or about a type of it. Those that make no sense now do nothing.
create function audit.alter_shapes(kind int, n bigint) returns text language plpgsql as $$
declare
  extra text := (select attname from pg_attribute
                 where attrelid = to_regclass('lab.shapes') and attnum > 0 and not attisdropped
                   and attname not in ('shape_id', 'id', 'version') order by md5(attname || n) limit 1);
  field text := (select attname from pg_attribute a join pg_type t on t.typrelid = a.attrelid
                 where t.oid = to_regtype('lab.spot') and attnum > 0 and not attisdropped
                   and attname not in (select name from audit.altered) order by md5(attname || n) limit 1);
  fields bigint := (select count(*) from pg_attribute a join pg_type t on t.typrelid = a.attrelid
                    where t.oid = to_regtype('lab.spot') and attnum > 0 and not attisdropped);
  labels bigint := (select count(*) from pg_enum where enumtypid = to_regtype('lab.mood'));
  label text := audit.some_value(to_regtype('lab.mood'), 0);
  command text;
begin
  if kind in (7, 8) and exists (select from audit.altered where name = 'table')
     or kind = 5 and exists (select from audit.altered where name <> 'table') then
    return null;
  end if;
  case kind
    when 0 then command := format('alter table lab.shapes add column c%s %s', n, (array['int', 'text', 'lab.spot', 'bigint'])[1 + n % 4]);
    when 1 then command := format('alter table lab.shapes drop column %I', extra);
    when 2 then command := format('alter table lab.shapes rename column %I to c%s', extra, n);
    when 3 then command := format('alter table lab.shapes alter column %I type %s using null', extra, (array['int', 'text', 'bigint'])[1 + n % 3]);
    when 4 then command := format('alter table lab.shapes rename column %I to %s', audit.key_of_shapes(),
                                  case audit.key_of_shapes() when 'id' then 'shape_id' else 'id' end);
    when 5 then command := 'select audit.make_shapes()';
    when 6 then command := format('alter type lab.spot add attribute a%s %s', n, (array['int', 'text'])[1 + n % 2]);
    when 7 then command := case when fields > 1 then format('alter type lab.spot drop attribute %I', field) end;
    when 8 then command := format('alter type lab.spot rename attribute %I to a%s', field, n);
    when 9 then command := case when labels < 20 then format('alter type lab.mood add value %L', 'mood ' || n) end;
    when 10 then command := format('alter type lab.mood rename value %L to %L', label, 'mood ' || n);
    else command := format('alter table lab.shapes replica identity %s', (array['full', 'default'])[1 + n % 2]);
  end case;
  if command is not null then
    execute command;
    if kind in (5, 6, 7, 8) then
      insert into audit.altered values (case kind when 5 then 'table' when 7 then field else 'a' || n end) on conflict do nothing;
    end if;
  end if;
  return command;
end $$;
