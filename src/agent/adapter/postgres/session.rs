//! A session on a server: what is asked again and again is parsed and planned once, by the server
//! too.

use std::collections::HashMap;

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, NoTls, Row, Statement};

use super::sql::{LookError, bounded};
use crate::config::agent::PostgresConfig;

/// One connection, and the statements that were prepared on it.
pub struct Session {
    client: Client,
    prepared: Mutex<HashMap<&'static str, Statement>>,
}

impl Session {
    /// By the Unix socket.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn connect(config: &PostgresConfig) -> Result<Self, LookError> {
        let mut settings = tokio_postgres::Config::new();
        settings
            .host_path(&config.socket_dir)
            .port(config.port)
            .user(&config.user)
            .dbname(&config.database)
            .application_name("quorate");
        let (client, connection) = bounded(settings.connect(NoTls)).await?;
        tokio::spawn(connection);
        Ok(Self { client, prepared: Mutex::default() })
    }

    /// The server, or the way to it, is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Error> {
        let mut prepared = self.prepared.lock().await;
        if let Some(statement) = prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        prepared.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Its rows.
    ///
    /// # Errors
    /// The server's, or its silence.
    pub async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, LookError> {
        bounded(async { self.client.query(&self.statement(sql).await?, parameters).await }).await
    }

    /// Its only row.
    ///
    /// # Errors
    /// The server's, or its silence.
    pub async fn query_one(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, LookError> {
        bounded(async { self.client.query_one(&self.statement(sql).await?, parameters).await })
            .await
    }

    /// Statements that return nothing.
    ///
    /// # Errors
    /// The server's, or its silence.
    pub async fn execute(&self, sql: &str) -> Result<(), LookError> {
        bounded(self.client.batch_execute(sql)).await
    }

    /// A statement that may take long; the caller bounds it.
    ///
    /// # Errors
    /// The server's.
    pub async fn execute_unbounded(&self, sql: &str) -> Result<(), LookError> {
        Ok(self.client.batch_execute(sql).await?)
    }
}
