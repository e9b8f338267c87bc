-- The tables of an exchange, and triggers that announce what changes in them; see exchange.toml.
--
--     psql "$DATABASE_URL" -f examples/exchange.sql
--
-- Each trigger names a Postgres channel, and the rows of private tables carry `uid`.

create schema exchange;

-- Public: what the matching engine keeps.  Rowcast makes the public channels of it.

create table exchange.levels (           -- the order book as it is; Rowcast looks at it at an interval
    symbol text,
    side   text,
    price  numeric,
    size   numeric not null,
    primary key (symbol, side, price)
);

create table exchange.trades (           -- the engine sends them by TCP, too; these are for the record
    id             bigint primary key,
    symbol         text not null,
    side           text not null,
    price          numeric not null,
    size           numeric not null,
    taker_order_id bigint not null,
    ts             timestamptz not null default clock_timestamp()
);
create index on exchange.trades (ts);

create table exchange.products (
    symbol      text primary key,
    index_price numeric not null,
    funding     numeric not null
);

-- The product's formula: the mark price lies in the middle of the book, the settlement price is the index.

create view exchange.prices as
select p.symbol,
       round(((select max(price) from exchange.levels where symbol = p.symbol and side = 'bid')
            + (select min(price) from exchange.levels where symbol = p.symbol and side = 'ask')) / 2, 2) as mark,
       p.index_price as index,
       p.index_price as settle,
       p.funding,
       date_bin('8 hours', now(), 'epoch') + interval '8 hours' as next_funding
from exchange.products p;

-- Candles: written by Rowcast, and read by it when it starts.

create table exchange.kline (
    symbol text, "interval" text, start timestamptz,
    open numeric not null, high numeric not null, low numeric not null, close numeric not null,
    volume numeric not null, turnover numeric not null, trades bigint not null,
    closed boolean not null, rev integer not null,
    last_size numeric not null, last_id bigint not null, first_at timestamptz, last_at timestamptz,
    primary key (symbol, "interval", start)
);

-- Private: what only the user `uid` may see.

create table exchange.balances (
    uid         bigint,
    currency    text,
    available   numeric not null,
    unavailable numeric not null,
    primary key (uid, currency)
);

create table exchange.orders (
    order_id bigint primary key,
    uid      bigint not null,
    symbol   text not null,
    side     text not null,
    price    numeric not null,
    size     numeric not null,
    filled   numeric not null default 0,
    status   text not null default 'open'
);

create table exchange.positions (
    uid         bigint,
    symbol      text,
    size        numeric not null,
    entry_price numeric not null,
    primary key (uid, symbol)
);

create table exchange.accounts (
    uid       bigint primary key,
    level     integer not null,
    maker_fee numeric not null,
    taker_fee numeric not null
);

-- A balance is announced in the form that the protocol's document shows.

create function exchange.balance_event(b exchange.balances) returns text language sql immutable as $$
    select json_build_object(
        'uid', b.uid,
        'balance', json_build_array(
            json_build_object('currency', b.currency, 'available', b.available, 'unavailable', b.unavailable)
        )
    )::text
$$;

create function exchange.announce_balance() returns trigger language plpgsql as $$
begin
    perform pg_notify('balance', exchange.balance_event(new));
    return null;
end
$$;

-- Every other row is announced as it is.

create function exchange.announce() returns trigger language plpgsql as $$
begin
    perform pg_notify(tg_argv[0], row_to_json(new)::text);
    return null;
end
$$;

create trigger announce after insert or update on exchange.balances
    for each row execute function exchange.announce_balance();
create trigger announce after insert or update on exchange.orders
    for each row execute function exchange.announce('order');
create trigger announce after insert or update on exchange.positions
    for each row execute function exchange.announce('position');
create trigger announce after insert or update on exchange.accounts
    for each row execute function exchange.announce('account');
