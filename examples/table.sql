-- The table of examples/table.toml.
CREATE TABLE item (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL,
    price numeric NOT NULL
);
INSERT INTO item (name, price) VALUES ('tea', 4.50), ('milk', 1.20), ('bread', 1.10);
