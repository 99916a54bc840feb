-- what:   when a run that scored began, what computed it, and the definitions of the features it scored a session from
-- grain:  run_id
-- reads:  run scored_session
-- params: run_id as_of
SELECT r.run_id, r.started_at, r.program, r.libraries, s.definition_digest
FROM run AS r
LEFT JOIN scored_session AS s ON s.run_id = r.run_id AND s.as_of = $as_of
WHERE r.run_id = $run_id
ORDER BY r.run_id
