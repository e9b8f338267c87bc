-- The tables of an exchange; see exchange.toml.

create schema exchange;

-- Public: what the matching engine keeps.  Rowcast looks at the order book at an interval; trades come by TCP, too.

create table exchange.levels (symbol text, side text, price numeric, size numeric not null, primary key (symbol, side, price));

create table exchange.trades (
    id bigint primary key, symbol text not null, side text not null, price numeric not null, size numeric not null,
    taker_order_id bigint not null, ts timestamptz not null default clock_timestamp()
);
create index on exchange.trades (ts);

create table exchange.products (symbol text primary key, index_price numeric not null, funding numeric not null);

-- The product's formula: the mark price lies in the middle of the book, the settlement price is the index.

create view exchange.prices as
select p.symbol,
       round(((select max(price) from exchange.levels where symbol = p.symbol and side = 'bid')
            + (select min(price) from exchange.levels where symbol = p.symbol and side = 'ask')) / 2, 2) as mark,
       p.index_price as index, p.index_price as settle, p.funding,
       date_bin('8 hours', now(), 'epoch') + interval '8 hours' as next_funding
from exchange.products p;

-- Candles: written by Rowcast, and read by it when it starts.

create table exchange.kline (
    symbol text, "interval" text, start timestamptz,
    open numeric not null, high numeric not null, low numeric not null, close numeric not null,
    volume numeric not null, turnover numeric not null, trades bigint not null, closed boolean not null, rev integer not null,
    last_size numeric not null, last_id bigint not null, first_at timestamptz, last_at timestamptz,
    primary key (symbol, "interval", start)
);

-- Private: what only the user `uid` may see.

create table exchange.orders (
    order_id bigint primary key, uid bigint not null, symbol text not null, side text not null,
    price numeric not null, size numeric not null, filled numeric not null default 0, status text not null default 'open'
);

create table exchange.positions (
    uid bigint, symbol text, size numeric not null, entry_price numeric not null, primary key (uid, symbol)
);

create table exchange.accounts (
    uid bigint primary key, level integer not null, maker_fee numeric not null, taker_fee numeric not null
);

create table exchange.balances (
    uid bigint, currency text, available numeric not null, unavailable numeric not null, balance json, primary key (uid, currency)
);

-- A balance in the form that the protocol's document shows, kept beside it.

create function exchange.balance_event() returns trigger language plpgsql as $$
begin
    new.balance := json_build_array(json_build_object(
        'currency', new.currency, 'available', new.available, 'unavailable', new.unavailable));
    return new;
end
$$;
create trigger balance_event before insert or update on exchange.balances
    for each row execute function exchange.balance_event();
