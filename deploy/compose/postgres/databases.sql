-- Run once, by the first start of PostgreSQL's container.
CREATE DATABASE dagster;
CREATE DATABASE mlflow;
CREATE DATABASE optuna;
