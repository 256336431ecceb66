-- +goose Up
INSERT INTO roles (name, description, is_system) VALUES
    ('viewer', 'May look; changes nothing', TRUE);

INSERT INTO roles (name, description, is_system, parent_id)
SELECT 'editor', 'May change what a viewer may look at', TRUE, id FROM roles WHERE name = 'viewer';

INSERT INTO roles (name, description, is_system, parent_id)
SELECT 'administrator', 'May also decide who else may', TRUE, id FROM roles WHERE name = 'editor';

INSERT INTO permissions (resource, action, description) VALUES
    ('profile', 'read', 'Read profiles'),
    ('profile', 'write', 'Change profiles'),
    ('role-binding', 'read', 'See who holds which role'),
    ('role-binding', 'write', 'Grant and withdraw roles');

-- Each role lists only what it adds: the rest is inherited from its parent.
INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id
FROM (VALUES
    ('viewer', 'profile', 'read'),
    ('viewer', 'role-binding', 'read'),
    ('editor', 'profile', 'write'),
    ('administrator', 'role-binding', 'write')
) AS seed (role, resource, action)
JOIN roles AS r ON r.name = seed.role
JOIN permissions AS p ON p.resource = seed.resource AND p.action = seed.action;

-- +goose Down
DELETE FROM role_permissions
WHERE role_id IN (SELECT id FROM roles WHERE is_system AND name IN ('viewer', 'editor', 'administrator'));

DELETE FROM permissions
WHERE (resource, action) IN (
    ('profile', 'read'), ('profile', 'write'), ('role-binding', 'read'), ('role-binding', 'write')
);

-- Children first: a parent that still has one may not go.
DELETE FROM roles WHERE is_system AND name = 'administrator';
DELETE FROM roles WHERE is_system AND name = 'editor';
DELETE FROM roles WHERE is_system AND name = 'viewer';
