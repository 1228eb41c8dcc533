BEGIN TRANSACTION;
CREATE TABLE database_state (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	database_id VARCHAR(32) NOT NULL, 
	seed_digest VARCHAR(64) NOT NULL, 
	change_number BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "database_state" VALUES(1,1,'c66e45fdb34349519a6fe661033ad623','7d3fc2f8827f88f261a92cab6225d85ab722913b792ab7aa7e4da862fc155016',1795536603776);
CREATE TABLE deletions (
	vehicle_id BIGINT NOT NULL, 
	row_version BIGINT NOT NULL, 
	PRIMARY KEY (vehicle_id)
);
INSERT INTO "deletions" VALUES(1000000002,1795536603776);
CREATE TABLE handovers (
	model_name VARCHAR(256) NOT NULL, 
	epoch INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	reason VARCHAR NOT NULL, 
	forced BOOLEAN NOT NULL, 
	decided_at DATETIME NOT NULL, 
	back_to INTEGER, 
	settled BOOLEAN NOT NULL, 
	PRIMARY KEY (model_name, epoch)
);
INSERT INTO "handovers" VALUES('vroom-forecast',1,1,'promotion','first',0,'2026-01-01 00:00:00.000000',NULL,1);
CREATE TABLE idempotency_keys (
	"key" VARCHAR(255) NOT NULL, 
	body VARCHAR NOT NULL, 
	vehicle_id BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "idempotency_keys" VALUES('first-release','{"technology":1,"actual_price":45.0,"recommended_price":50.0,"num_images":4,"street_parked":0,"description":120}',1000000001);
CREATE TABLE reservations (
	id INTEGER NOT NULL, 
	vehicle_id BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(vehicle_id) REFERENCES vehicles (vehicle_id)
);
INSERT INTO "reservations" VALUES(1,1,1672567200000000);
INSERT INTO "reservations" VALUES(2,1,1675251000000000);
CREATE TABLE vehicles (
	technology INTEGER NOT NULL, 
	actual_price FLOAT NOT NULL, 
	recommended_price FLOAT NOT NULL, 
	num_images INTEGER NOT NULL, 
	street_parked INTEGER NOT NULL, 
	description INTEGER NOT NULL, 
	vehicle_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	source VARCHAR(3) NOT NULL, 
	row_version BIGINT NOT NULL, 
	saved_at BIGINT, 
	CONSTRAINT source_is_known CHECK (source IN ('csv', 'ui'))
);
INSERT INTO "vehicles" VALUES(1,45.5,50.0,4,0,120,1,'csv',1795536603773,NULL);
INSERT INTO "vehicles" VALUES(0,60.0,55.0,2,1,0,2,'csv',1795536603773,NULL);
INSERT INTO "vehicles" VALUES(1,45.0,50.0,4,0,120,1000000001,'ui',1795536603774,1767225600000000);
CREATE INDEX ix_deletions_row_version ON deletions (row_version);
CREATE INDEX ix_reservations_vehicle_id_created_at ON reservations (vehicle_id, created_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('vehicles',1000000002);
COMMIT;
