-- A small shop whose application makes its events itself: in an outbox table, or, without a table, in logical messages.
-- Its events are committed and published together with the rows of their transaction, or not at all.

do $$ begin
  if not exists (select from pg_roles where rolname = 'shop') then create role shop; end if;
end $$;

create schema shop;

create table shop.orders (
  order_id        bigint generated always as identity primary key,
  customer_email  text not null,                         -- personal data: see [pii] in forebay.toml
  status          text not null default 'placed' check (status in ('placed', 'shipped', 'cancelled')),
  currency        char(3) not null default 'EUR',
  total           numeric(12,2) not null,
  placed_at       timestamptz not null default now(),
  shipped_at      timestamptz
);
comment on table shop.orders is 'One order of one customer.';
-- The rule about shipped orders compares the new row with the old one.
alter table shop.orders replica identity full;

create table shop.order_lines (
  order_id  bigint not null references shop.orders on delete cascade,
  line_no   smallint not null,
  sku       text not null,
  quantity  integer not null check (quantity > 0),
  price     numeric(12,2) not null,
  primary key (order_id, line_no)
);

-- The columns of Debezium's outbox, so that `outbox = "shop.outbox"` needs no further keys.
create table shop.outbox (
  id             uuid primary key default gen_random_uuid(),  -- the event's id
  aggregatetype  text not null,                               -- kind of the entity, such as order
  aggregateid    text not null,                               -- id of the entity: subject and partition key
  type           text not null,                               -- what has happened, with its version: order_placed.v1
  payload        jsonb not null,                              -- the event's data
  "timestamp"    timestamptz                                  -- when it happened, if that is not the commit
);

-- Places an order and writes its event in one transaction. Returns the event's id.
create function shop.place_order(email text, sku text, quantity integer, price numeric, request text) returns uuid
language plpgsql as $$
declare
  placed bigint;
  event  uuid := gen_random_uuid();
begin
  -- The context of all later events of this transaction.
  perform pg_logical_emit_message(true, 'forebay:context', json_build_object('correlationid', request)::text);
  insert into shop.orders (customer_email, total) values (email, quantity * price) returning order_id into placed;
  insert into shop.order_lines values (placed, 1, sku, quantity, price);
  insert into shop.outbox (id, aggregatetype, aggregateid, type, payload)
  values (event, 'order', placed::text, 'order_placed.v1', jsonb_build_object(
    'order_id', placed, 'total', quantity * price,
    'lines', jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', quantity))));
  -- Forebay reads the insert from the WAL. So the row can be deleted at once: no clean-up job is needed.
  delete from shop.outbox where id = event;
  return event;
end $$;

-- Publishes a fact that no table holds: a logical message is only in the WAL.
create function shop.rate_order(rated bigint, stars integer) returns pg_lsn language sql as $$
  select pg_logical_emit_message(true, 'event:order_rated.v1:' || rated, json_build_object('order_id', rated, 'stars', stars)::text)
$$;

alter table shop.orders owner to shop;
alter table shop.order_lines owner to shop;
alter table shop.outbox owner to shop;
grant usage on schema shop to shop;
