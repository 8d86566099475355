// One node per id and label. Uniqueness only: existence and node keys are not in Neo4j's Community edition.
CREATE CONSTRAINT migration_id IF NOT EXISTS FOR (n:Migration) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT dataset_version_id IF NOT EXISTS FOR (n:DatasetVersion) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT model_version_id IF NOT EXISTS FOR (n:ModelVersion) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT config_id IF NOT EXISTS FOR (n:Config) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT code_version_id IF NOT EXISTS FOR (n:CodeVersion) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT environment_id IF NOT EXISTS FOR (n:Environment) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT run_id IF NOT EXISTS FOR (n:Run) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT metric_series_id IF NOT EXISTS FOR (n:MetricSeries) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT energy_reading_id IF NOT EXISTS FOR (n:EnergyReading) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT energy_account_id IF NOT EXISTS FOR (n:EnergyAccount) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT agent_id IF NOT EXISTS FOR (n:Agent) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT decision_id IF NOT EXISTS FOR (n:Decision) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT vote_id IF NOT EXISTS FOR (n:Vote) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT prediction_batch_id IF NOT EXISTS FOR (n:PredictionBatch) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT assertion_id IF NOT EXISTS FOR (n:Assertion) REQUIRE n.id IS UNIQUE;
