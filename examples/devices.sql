-- What devices have measured, and what people correct by hand.
CREATE TABLE readings (
    id     text COLLATE "C" PRIMARY KEY,
    device text NOT NULL,
    metric text NOT NULL,
    value  numeric NOT NULL,
    at     timestamptz NOT NULL,
    source text NOT NULL DEFAULT 'operator'
);
