-- +goose Up
CREATE VIEW live_sessions AS
SELECT s.id, s.user_id, u.email, s.user_agent, s.ip_address, s.last_seen_at, s.expires_at
FROM sessions AS s
JOIN users AS u ON u.id = s.user_id
WHERE s.revoked_at IS NULL AND s.expires_at > now() AND u.status = 'active';

-- A locked or deleted user must be signed out everywhere, whoever changed the status and by whatever way.
-- +goose StatementBegin
CREATE FUNCTION revoke_sessions_of_inactive_user()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE sessions
  SET revoked_at = now(), revoked_reason = 'user is ' || NEW.status::text
  WHERE user_id = NEW.id AND revoked_at IS NULL;
  RETURN NULL;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER users_revoke_sessions
    AFTER UPDATE OF status ON users
    FOR EACH ROW
    WHEN (NEW.status IN ('locked', 'deleted') AND OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION revoke_sessions_of_inactive_user();

-- +goose Down
DROP TRIGGER IF EXISTS users_revoke_sessions ON users;
DROP FUNCTION IF EXISTS revoke_sessions_of_inactive_user();
DROP VIEW IF EXISTS live_sessions;
