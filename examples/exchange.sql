-- The tables of an exchange, and triggers that announce what changes in them; see exchange.toml.
--
--     psql "$DATABASE_URL" -f examples/exchange.sql
--
-- Each trigger names a Postgres channel.  Rows of public tables carry `symbol`, those of private ones `uid`.

create schema exchange;

-- Public: what anybody may see.

create table exchange.depth (
    symbol text primary key,
    bids   jsonb not null,               -- changed levels: [[price, size], ...], size 0 removes one
    asks   jsonb not null
);

create table exchange.trades (
    trade_id bigint primary key,
    symbol   text not null,
    side     text not null,
    price    numeric not null,
    size     numeric not null
);

create table exchange.markprice (
    symbol               text primary key,
    mark_price           numeric not null,
    index_price          numeric not null,
    estimated_settlement numeric not null,
    funding_rate         numeric not null
);

create table exchange.ticker (
    symbol text primary key,
    open   numeric not null,
    high   numeric not null,
    low    numeric not null,
    last   numeric not null,
    volume numeric not null,
    quota  numeric not null
);

create table exchange.kline (
    symbol    text,
    interval  text,
    opened_at bigint,                    -- seconds since 1970
    open      numeric not null,
    high      numeric not null,
    low       numeric not null,
    close     numeric not null,
    volume    numeric not null,
    primary key (symbol, interval, opened_at)
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

create trigger announce after insert or update on exchange.depth
    for each row execute function exchange.announce('depth');
create trigger announce after insert on exchange.trades
    for each row execute function exchange.announce('trades');
create trigger announce after insert or update on exchange.markprice
    for each row execute function exchange.announce('markprice');
create trigger announce after insert or update on exchange.ticker
    for each row execute function exchange.announce('ticker');
create trigger announce after insert or update on exchange.kline
    for each row execute function exchange.announce('kline');
create trigger announce after insert or update on exchange.balances
    for each row execute function exchange.announce_balance();
create trigger announce after insert or update on exchange.orders
    for each row execute function exchange.announce('order');
create trigger announce after insert or update on exchange.positions
    for each row execute function exchange.announce('position');
create trigger announce after insert or update on exchange.accounts
    for each row execute function exchange.announce('account');
