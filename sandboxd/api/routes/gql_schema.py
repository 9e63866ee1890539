"""The schema of GraphQL: the part of the manager's schema that this server offers.

Types and fields are those of the official clients, so that each of their lists and formats can be
shown. A field without a meaning on one host is null or empty. Times are ISO 8601, and
a JSONString is a text that holds JSON.
"""

from __future__ import annotations

from graphql import build_schema

SCHEMA = build_schema("""
scalar UUID
scalar DateTime
scalar BigInt
scalar JSONString

type Query {
  keypair(domain_name: String, access_key: String): KeyPair
  compute_session(id: UUID!): ComputeSession
  compute_session_list(
    limit: Int!, offset: Int!, filter: String, order: String, domain_name: String,
    group_id: String, access_key: String, status: String
  ): ComputeSessionList
  compute_container(id: UUID!): ComputeContainer
  vfolder_list(
    limit: Int!, offset: Int!, filter: String, order: String, domain_name: String,
    group_id: UUID, access_key: String
  ): VirtualFolderList
  vfolder_own_list(
    limit: Int!, offset: Int!, filter: String, order: String, domain_name: String,
    access_key: String
  ): VirtualFolderList
  vfolder_invited_list(
    limit: Int!, offset: Int!, filter: String, order: String, domain_name: String,
    access_key: String
  ): VirtualFolderList
  vfolder_project_list(
    limit: Int!, offset: Int!, filter: String, order: String, domain_name: String,
    access_key: String
  ): VirtualFolderList
}

type UserInfo { email: String full_name: String }

type KeyPair {
  user_id: String
  user_info: UserInfo
  full_name: String
  projects: [String]
  access_key: String
  secret_key: String
  is_active: Boolean
  is_admin: Boolean
  created_at: DateTime
  modified_at: DateTime
  last_used: DateTime
  resource_policy: String
  rate_limit: Int
  concurrency_used: Int
  concurrency_limit: Int
  num_queries: Int
  ssh_public_key: String
  ssh_private_key: String
  dotfiles: String
  bootstrap_script: String
}

type ComputeSessionList { items: [ComputeSession]! total_count: Int! }

type ComputeSession {
  id: UUID
  session_id: UUID
  main_kernel_id: UUID
  tag: String
  name: String
  type: String
  image: String
  architecture: String
  registry: String
  cluster_template: String
  cluster_mode: String
  cluster_size: Int
  domain_name: String
  group_name: String
  group_id: UUID
  agent_ids: [String]
  user_email: String
  full_name: String
  user_id: String
  access_key: String
  created_user_email: String
  created_user_id: String
  status: String
  status_info: String
  status_data: JSONString
  status_changed: DateTime
  status_history: JSONString
  created_at: DateTime
  terminated_at: DateTime
  starts_at: DateTime
  scheduled_at: DateTime
  startup_command: String
  bootstrap_script: String
  result: String
  resource_opts: JSONString
  requested_slots: JSONString
  occupied_slots: JSONString
  occupying_slots: JSONString
  scaling_group: String
  service_ports: JSONString
  mounts: [String]
  vfolder_mounts: [String]
  num_queries: Int
  priority: Int
  cpu_used: BigInt
  mem_max_bytes: BigInt
  io_read_bytes: BigInt
  io_write_bytes: BigInt
  containers: [ComputeContainer]
  dependencies: [ComputeSession]
  abusing_reports: [String]
  idle_checks: JSONString
}

type ComputeContainer {
  id: UUID
  session_id: UUID
  cluster_role: String
  cluster_idx: Int
  cluster_hostname: String
  local_rank: Int
  image: String
  architecture: String
  registry: String
  status: String
  status_info: String
  status_data: JSONString
  status_changed: DateTime
  created_at: DateTime
  terminated_at: DateTime
  starts_at: DateTime
  agent: String
  agent_addr: String
  container_id: String
  resource_opts: JSONString
  occupied_slots: JSONString
  preopen_ports: [Int]
  live_stat: JSONString
  last_stat: JSONString
}

type VirtualFolderList { items: [VirtualFolder]! total_count: Int! }

type VirtualFolder {
  id: UUID
  host: String
  name: String
  user: UUID
  user_email: String
  group: UUID
  group_name: String
  creator: String
  status: String
  unmanaged_path: String
  usage_mode: String
  permission: String
  ownership_type: String
  max_files: Int
  max_size: BigInt
  created_at: DateTime
  last_used: DateTime
  num_files: Int
  cur_size: BigInt
  cloneable: Boolean
}
""")
