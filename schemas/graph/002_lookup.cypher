// What the named queries look things up by.
CREATE INDEX decision_request_id IF NOT EXISTS FOR (n:Decision) ON (n.request_id);
CREATE INDEX metric_series_name IF NOT EXISTS FOR (n:MetricSeries) ON (n.name);
CREATE INDEX assertion_predicate IF NOT EXISTS FOR (n:Assertion) ON (n.predicate);
CREATE INDEX assertion_recorded_ms IF NOT EXISTS FOR (n:Assertion) ON (n.recorded_ms);
CREATE INDEX prediction_batch_to_ms IF NOT EXISTS FOR (n:PredictionBatch) ON (n.to_ms);
CREATE INDEX run_job_id IF NOT EXISTS FOR (n:Run) ON (n.job_id);
