/** The table of calls that run as tasks of MCP. */
import type { Migration } from './migrations.ts';

export const mcpTasks: Migration = {
  name: '0011-mcp-tasks',
  async up({ schema }) {
    await schema
      .createTable('mcp_tasks')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('principal_id', 'text', (c) => c.notNull())
      .addColumn('status', 'text', (c) => c.notNull())
      .addColumn('result_sealed', 'text')
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addColumn('updated_at', 'bigint', (c) => c.notNull())
      .addColumn('expires_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createIndex('mcp_tasks_principal')
      .on('mcp_tasks')
      .columns(['principal_id', 'expires_at'])
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('mcp_tasks').execute();
  },
};

/** Who may read what came of it: whoever may still make the call. Those of before are read by nobody, and are over in an hour. */
export const taskNeeds: Migration = {
  name: '0014-task-needs',
  async up({ schema }) {
    await schema.alterTable('mcp_tasks').addColumn('needs', 'text').execute();
  },
  async down({ schema }) {
    await schema.alterTable('mcp_tasks').dropColumn('needs').execute();
  },
};
