-- The demo exchange: an order book's event tables, the orders' history, and triggers that announce each row.
--
-- Names, columns and JSON are those that clients of Econia's data service stack know; the SQL is our own.
-- Two families of triggers: one Postgres channel per MQTT topic family, with the bare row, and the channel
-- `econiaws`, with the row in an envelope that names its WebSocket channel.

create schema aggregator;
create schema api;

create type order_status as enum ('open', 'closed', 'cancelled');
create type order_type as enum ('limit', 'market', 'swap');

-- Every event has the place where it happened as its key: the transaction's number, its own number in there.

create table market_registration_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    market_id numeric(20) not null,
    time timestamptz not null,
    base_account_address varchar(70),
    base_module_name text,
    base_struct_name text,
    base_name_generic text,
    quote_account_address varchar(70) not null,
    quote_module_name text not null,
    quote_struct_name text not null,
    lot_size numeric(20) not null,
    tick_size numeric(20) not null,
    min_size numeric(20) not null,
    underwriter_id numeric(20) not null,
    primary key (txn_version, event_idx)
);

create table recognized_market_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    time timestamptz not null,
    base_account_address varchar(70),
    base_module_name text,
    base_struct_name text,
    base_name_generic text,
    quote_account_address varchar(70) not null,
    quote_module_name text not null,
    quote_struct_name text not null,
    market_id numeric(20),
    lot_size numeric(20),
    tick_size numeric(20),
    min_size numeric(20),
    underwriter_id numeric(20),
    primary key (txn_version, event_idx)
);

create table place_limit_order_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    time timestamptz not null,
    market_id numeric(20) not null,
    "user" varchar(70) not null,
    custodian_id numeric(20) not null,
    order_id numeric(39) not null,
    side boolean not null,                  -- true: ask
    integrator varchar(70) not null,
    initial_size numeric(20) not null,      -- what was asked for
    price numeric(20) not null,
    restriction smallint not null,
    self_match_behavior smallint not null,
    size numeric(20) not null,              -- what was left to rest on the book
    primary key (txn_version, event_idx)
);

create table place_market_order_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    market_id numeric(20) not null,
    time timestamptz not null,
    order_id numeric(39) not null,
    "user" varchar(70) not null,
    custodian_id numeric(20) not null,
    integrator varchar(70) not null,
    direction boolean not null,             -- true: sell
    size numeric(20) not null,
    self_match_behavior smallint not null,
    primary key (txn_version, event_idx)
);

create table place_swap_order_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    market_id numeric(20) not null,
    time timestamptz not null,
    order_id numeric(39) not null,
    signing_account varchar(70) not null,   -- 0x0: nobody signed
    integrator varchar(70) not null,
    direction boolean not null,
    min_base numeric(20) not null,
    max_base numeric(20) not null,
    min_quote numeric(20) not null,
    max_quote numeric(20) not null,
    limit_price numeric(20) not null,
    primary key (txn_version, event_idx)
);

create table change_order_size_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    market_id numeric(20) not null,
    time timestamptz not null,
    order_id numeric(39) not null,
    "user" varchar(70) not null,
    custodian_id numeric(20) not null,
    side boolean not null,
    new_size numeric(20) not null,
    primary key (txn_version, event_idx)
);

create table cancel_order_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    time timestamptz not null,
    market_id numeric(20) not null,
    "user" varchar(70) not null,
    custodian_id numeric(20) not null,
    order_id numeric(39) not null,
    reason smallint not null,
    primary key (txn_version, event_idx)
);

create table fill_events (
    txn_version numeric(20) not null,
    event_idx numeric(20) not null,
    emit_address varchar(70) not null,      -- whose copy this is: a fill has one row per party that keeps a record
    time timestamptz not null,
    maker_address varchar(70) not null,
    maker_custodian_id numeric(20) not null,
    maker_order_id numeric(39) not null,
    maker_side boolean not null,
    market_id numeric(20) not null,
    price numeric(20) not null,
    sequence_number_for_trade numeric(20) not null,
    size numeric(20) not null,
    taker_address varchar(70) not null,
    taker_custodian_id numeric(20) not null,
    taker_order_id numeric(39) not null,
    taker_quote_fees_paid numeric(20) not null,
    primary key (txn_version, event_idx)
);

-- What became of each order: one row for all kinds, and one with what is special to its kind.

create table aggregator.user_history (
    market_id numeric(20) not null,
    order_id numeric(39) not null,
    created_at timestamptz not null,
    last_updated_at timestamptz,
    integrator text not null,
    total_filled numeric(20) not null,
    remaining_size numeric(20) not null,
    order_status order_status not null,
    order_type order_type not null,
    primary key (market_id, order_id)
);

create table aggregator.user_history_limit (
    market_id numeric(20) not null,
    order_id numeric(39) not null,
    "user" text not null,
    custodian_id numeric(20) not null,
    side boolean not null,
    self_matching_behavior smallint not null,
    restriction smallint not null,
    price numeric(20) not null,
    last_increase_stamp numeric(39) not null,
    primary key (market_id, order_id)
);

create table aggregator.user_history_market (
    market_id numeric(20) not null,
    order_id numeric(39) not null,
    "user" text not null,
    custodian_id numeric(20) not null,
    direction boolean not null,
    self_matching_behavior smallint not null,
    primary key (market_id, order_id)
);

create table aggregator.user_history_swap (
    market_id numeric(20) not null,
    order_id numeric(39) not null,
    direction boolean not null,
    limit_price numeric(20) not null,
    signing_account text not null,
    min_base numeric(20) not null,
    max_base numeric(20) not null,
    min_quote numeric(20) not null,
    max_quote numeric(20) not null,
    primary key (market_id, order_id)
);

create view api.limit_orders as
select h.market_id, h.order_id, o."user", o.custodian_id, o.self_matching_behavior, o.restriction,
       h.created_at, h.last_updated_at, h.integrator, h.total_filled, h.remaining_size,
       h.order_status, h.order_type, o.price, o.last_increase_stamp,
       case when o.side then 'ask' else 'bid' end as side
from aggregator.user_history h
join aggregator.user_history_limit o using (market_id, order_id);

create view api.market_orders as
select h.market_id, h.order_id, o."user", o.custodian_id, o.self_matching_behavior,
       h.created_at, h.last_updated_at, h.integrator, h.total_filled, h.remaining_size,
       h.order_status, h.order_type,
       case when o.direction then 'sell' else 'buy' end as direction
from aggregator.user_history h
join aggregator.user_history_market o using (market_id, order_id);

create view api.swap_orders as
select h.market_id, h.order_id, o.signing_account, o.limit_price,
       o.min_base, o.max_base, o.min_quote, o.max_quote,
       h.created_at, h.last_updated_at, h.integrator, h.total_filled, h.remaining_size,
       h.order_status, h.order_type,
       case when o.direction then 'sell' else 'buy' end as direction
from aggregator.user_history h
join aggregator.user_history_swap o using (market_id, order_id);

-- Announcing.  Each function takes the name of the channel; the third also the view that holds the row.

create function announce_row() returns trigger language plpgsql as $$
begin
    perform pg_notify(tg_argv[0], row_to_json(new)::text);
    return null;
end $$;

create function announce_in_envelope() returns trigger language plpgsql as $$
begin
    perform pg_notify('econiaws', json_build_object('channel', tg_argv[0], 'payload', new)::text);
    return null;
end $$;

create function announce_order() returns trigger language plpgsql as $$
declare
    envelope text;
begin
    execute format(
        'select json_build_object(''channel'', $1, ''payload'', o)::text
         from api.%I o where o.market_id = $2 and o.order_id = $3', tg_argv[1])
    into strict envelope using tg_argv[0], new.market_id, new.order_id;
    perform pg_notify('econiaws', envelope);
    return null;
end $$;

create trigger announce after insert on place_limit_order_events
    for each row execute function announce_row('place_limit_order');
create trigger announce after insert on place_market_order_events
    for each row execute function announce_row('place_market_order');
create trigger announce after insert on place_swap_order_events
    for each row execute function announce_row('place_swap_order');
create trigger announce after insert on change_order_size_events
    for each row execute function announce_row('change_order_size');
create trigger announce after insert on cancel_order_events
    for each row execute function announce_row('cancel_order');
create trigger announce after insert on fill_events
    for each row execute function announce_row('fill');

create trigger announce_ws after insert on market_registration_events
    for each row execute function announce_in_envelope('market_registration_event');
create trigger announce_ws after insert on recognized_market_events
    for each row execute function announce_in_envelope('recognized_market_event');
create trigger announce_ws after insert on place_limit_order_events
    for each row execute function announce_in_envelope('place_limit_order_event');
create trigger announce_ws after insert on place_market_order_events
    for each row execute function announce_in_envelope('place_market_order_event');
create trigger announce_ws after insert on place_swap_order_events
    for each row execute function announce_in_envelope('place_swap_order_event');
create trigger announce_ws after insert on change_order_size_events
    for each row execute function announce_in_envelope('change_order_size_event');
create trigger announce_ws after insert on cancel_order_events
    for each row execute function announce_in_envelope('cancel_order_event');
create trigger announce_ws after insert on fill_events
    for each row execute function announce_in_envelope('fill_event');

create trigger announce_ws after insert on aggregator.user_history_limit
    for each row execute function announce_order('new_limit_order', 'limit_orders');
create trigger announce_ws after insert on aggregator.user_history_market
    for each row execute function announce_order('new_market_order', 'market_orders');
create trigger announce_ws after insert on aggregator.user_history_swap
    for each row execute function announce_order('new_swap_order', 'swap_orders');
create trigger announce_ws_update after update on aggregator.user_history_limit
    for each row execute function announce_order('updated_limit_order', 'limit_orders');
create trigger announce_ws_update after update on aggregator.user_history
    for each row when (new.order_type = 'limit')
    execute function announce_order('updated_limit_order', 'limit_orders');
