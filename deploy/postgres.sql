-- MLflow and Prefect have databases of their own on the server of Vroom's.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
