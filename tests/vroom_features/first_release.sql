-- A database of the first release, on SQLite or PostgreSQL: test_upgrade.py has the words in braces.
CREATE TABLE database_state (
    id INTEGER NOT NULL PRIMARY KEY,
    schema_version INTEGER NOT NULL,
    database_id VARCHAR(32) NOT NULL,
    seed_digest VARCHAR(64) NOT NULL,
    change_number BIGINT NOT NULL
);
INSERT INTO database_state VALUES (1, 1, 'c66e45fdb34349519a6fe661033ad623', '7d3fc2f8827f88f2', 1795536603776);
CREATE TABLE deletions (vehicle_id BIGINT NOT NULL PRIMARY KEY, row_version BIGINT NOT NULL);
INSERT INTO deletions VALUES (1000000002, 1795536603776);
CREATE TABLE handovers (
    model_name VARCHAR(256) NOT NULL,
    epoch INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    reason VARCHAR NOT NULL,
    forced BOOLEAN NOT NULL,
    decided_at {datetime} NOT NULL,
    back_to INTEGER,
    settled BOOLEAN NOT NULL,
    PRIMARY KEY (model_name, epoch)
);
INSERT INTO handovers VALUES ('vroom-forecast', 1, 1, 'promotion', 'first', false, '2026-01-01 00:00:00', NULL, true);
CREATE TABLE idempotency_keys (
    key VARCHAR(255) NOT NULL PRIMARY KEY,
    body VARCHAR NOT NULL,
    vehicle_id BIGINT NOT NULL
);
INSERT INTO idempotency_keys VALUES ('first-release', '{body}', 1000000001);
CREATE TABLE vehicles (
    technology INTEGER NOT NULL,
    actual_price {float} NOT NULL,
    recommended_price {float} NOT NULL,
    num_images INTEGER NOT NULL,
    street_parked INTEGER NOT NULL,
    description INTEGER NOT NULL,
    vehicle_id {vehicle_id},
    source VARCHAR(3) NOT NULL,
    row_version BIGINT NOT NULL,
    saved_at {moment},
    CONSTRAINT source_is_known CHECK (source IN ('csv', 'ui'))
);
INSERT INTO vehicles VALUES (1, 45.5, 50, 4, 0, 120, 1, 'csv', 1795536603773, NULL);
INSERT INTO vehicles VALUES (0, 60, 55, 2, 1, 0, 2, 'csv', 1795536603773, NULL);
INSERT INTO vehicles VALUES (1, 45, 50, 4, 0, 120, 1000000001, 'ui', 1795536603774, {saved});
{set_last_id};
CREATE TABLE reservations (
    id {id} PRIMARY KEY,
    vehicle_id BIGINT NOT NULL REFERENCES vehicles (vehicle_id),
    created_at {moment} NOT NULL
);
INSERT INTO reservations VALUES (1, 1, {first});
INSERT INTO reservations VALUES (2, 1, {second});
CREATE INDEX ix_deletions_row_version ON deletions (row_version);
CREATE INDEX ix_reservations_vehicle_id_created_at ON reservations (vehicle_id, created_at);
